"""The clips of a library for ``edvr restore``, and the names of their outputs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edvr_jax import files
from edvr_jax.commands.paths import is_pipe
from edvr_jax.errors import InputError
from edvr_jax.files import places_beside
from edvr_jax.media.read import images
from edvr_jax.media.read.clip_reader import VIDEO_SUFFIXES, is_clip
from edvr_jax.media.write.containers import CONTAINERS

if TYPE_CHECKING:
    from edvr_jax.commands.restore import Restore

# Suffixes of inputs that cannot be written and have no sound, or sound that MP4 stores.
_AS_MP4 = (".apng", ".3gp")
_AS_OTHERS = ".mkv"  # stores all sound and subtitles of the other formats


@dataclasses.dataclass(frozen=True)
class LibraryClip:
    """A clip of a library.

    Attributes:
        path: The input.
        command: ``edvr restore`` of it alone.
    """

    path: Path
    command: "Restore"

    @property
    def target(self) -> Path:
        """The output."""
        return self.command.output

    @property
    def is_video(self) -> bool:
        """Whether the output is a video, not a folder of images."""
        return self.target.suffix.lower() in CONTAINERS

    @property
    def is_done(self) -> bool:
        """Whether the output exists and stays."""
        return not (self.command.overwrite or files.is_free(self.target))


def find_clips(path: Path) -> list[Path]:
    """List the clips of a library in natural order; none if the input is a clip.

    Args:
        path: The input of ``edvr restore``.

    Raises:
        InputError: if a folder has both images and videos.
    """
    clips = []
    if path.is_dir() and not is_pipe(path):
        entries = images.list_visible(path)
        videos = [p for p in entries if p.suffix.lower() in VIDEO_SUFFIXES]
        frames = images.list_images(path)
        if frames and videos:
            raise InputError(
                f"{path}: this folder has images ({frames[0].name}) and videos "
                f"({videos[0].name}); one clip has images alone, and a library videos "
                "and folders of images"
            )
        clips = [] if frames else [p for p in entries if is_clip(p)]
    return clips


def name_output(clip: Path, folder: Path) -> Path:
    """Return the output of a clip: its name, with a suffix that can be written."""
    suffix = clip.suffix.lower()
    if clip.is_dir() or suffix in CONTAINERS:
        return folder / clip.name
    return folder / f"{clip.stem}{'.mp4' if suffix in _AS_MP4 else _AS_OTHERS}"


def create_clip(command: "Restore", path: Path) -> LibraryClip:
    """Return a clip with the options that are for its kind."""
    target = name_output(path, command.output)
    changes: dict[str, Any] = {"report": None, "shard": None}
    if path.is_dir():
        changes["video_stream"] = None
    else:
        changes["fps"] = None
    if target.suffix.lower() in CONTAINERS:
        changes["image_format"] = None
    return LibraryClip(
        path, dataclasses.replace(command, input=path, output=target, **changes)
    )


def check_names(clips: Sequence[LibraryClip]) -> None:
    """Check that no two clips need the same name for their output."""
    found: dict[Path, LibraryClip] = {}
    for clip in clips:
        for place in (clip.target, places_beside(clip.target)[1]):
            other = found.setdefault(place, clip)
            if other is not clip:
                raise InputError(
                    f"{other.path} and {clip.path}: both would be restored to {place}; "
                    "rename one of them"
                )


def check_kinds(command: "Restore", clips: Sequence[LibraryClip]) -> None:
    """Check that the library has clips for the options that are for one kind."""
    kinds = {
        "fps": any(clip.path.is_dir() for clip in clips),
        "image_format": not all(clip.is_video for clip in clips),
        "video_stream": not all(clip.path.is_dir() for clip in clips),
    }
    for name, has_kind in kinds.items():
        if getattr(command, name) is not None and not has_kind:
            kind = "videos" if name == "video_stream" else "folders of images"
            raise InputError(
                f"--{name.replace('_', '-')} is for {kind}, and {command.input} has "
                "none; leave it out"
            )
