"""``edvr prepare``: sharp clips in, folders of ground truth and degraded frames out."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from edvr_jax import files, progress
from edvr_jax.commands import output
from edvr_jax.commands.paths import check_apart
from edvr_jax.config import DegradeConfig
from edvr_jax.data import degrade
from edvr_jax.errors import INTERRUPTED, InputError, OutputError
from edvr_jax.media.read import clip_pairs, clip_reader
from edvr_jax.media.write.writer import open_writer

SETTINGS = "prepare.json"


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Make pairs to train or test on from sharp clips.

    DST/gt/CLIP and DST/lq/CLIP get the frames as PNG files, under equal names. A run
    that was stopped continues with the clips that are missing. The same clips,
    settings and seed give the same bytes.

    Attributes:
        source: Sharp clips: a folder of videos and folders of frames, or one clip. For
            motion blur they should have a high frame rate (120 Hz or more).
        target: Folder for the pairs; made if needed.
        degrade: The track.
        scale: Size of the ground truth over that of the degraded frames: 2, 3 or 4 for
            super-resolution, 1 for deblurring.
        gt_downscale: Downscale the clips by this first (MATLAB bicubic), which hides
            the compression of web video.
        clips: Names of the clips to take (file name without suffix); none takes all.
        seed: Seed of the noise.
        skip_bad: Leave out clips that cannot be read, and count them, instead of
            stopping.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DST")]
    degrade: Annotated[DegradeConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=DegradeConfig
    )
    scale: int = 4
    gt_downscale: int = 1
    clips: tuple[str, ...] = ()
    seed: int = 0
    skip_bad: bool = False

    def run(self) -> int | None:
        """Write what is missing and say what is there.

        Returns:
            Exit code: None (0), or 130 after Ctrl-C.
        """
        if not 1 <= self.scale <= 4:
            raise InputError(f"scale must be 1, 2, 3 or 4, got {self.scale}")
        if self.gt_downscale < 1:
            raise InputError(f"gt_downscale must be positive, got {self.gt_downscale}")
        self.degrade.check_scale(self.scale)
        paths = clip_pairs.select_clips(self.source, self.clips)
        check_apart(self.source, self.target)
        clip_pairs.note_gaps(paths)
        if not self.skip_bad:
            for path in paths:
                if not self._is_done(path):
                    self._open(path)
        self._claim_target()
        for kind in ("gt", "lq"):
            with files.report_failure(self.target):
                (self.target / kind).mkdir(exist_ok=True)
        num_bad = 0
        try:
            for path in progress.track(paths, unit="clip"):
                try:
                    self._prepare(path)
                except InputError as error:
                    if not self.skip_bad or isinstance(error, OutputError):
                        raise
                    num_bad += 1
                    sys.stderr.write(f"skipped: {error}\n")
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted: run again to continue\n")
            return INTERRUPTED
        skipped = f", {num_bad} skipped" if num_bad else ""
        sys.stdout.write(f"{self.target}: {len(paths) - num_bad} clips{skipped}\n")
        return None

    def _claim_target(self) -> None:
        """Make the target, or check that it holds pairs of the same kind."""
        path = self.target / SETTINGS
        settings = {
            **dataclasses.asdict(self.degrade),
            "scale": self.scale,
            "gt_downscale": self.gt_downscale,
            "seed": self.seed,
        }
        if self.degrade.track != "web":
            del settings["web"]
        settings = json.loads(json.dumps(settings))  # lists for tuples, as in the file
        if path.exists():
            if _read_settings(path) != settings:
                raise InputError(
                    f"{self.target} holds pairs made with other settings, see {path}; "
                    "choose another folder"
                )
            return
        if self.target.exists() and (
            not self.target.is_dir() or any(self.target.iterdir())
        ):
            raise InputError(f"{self.target} is not an empty folder; choose another")
        with files.report_failure(self.target):
            self.target.mkdir(parents=True, exist_ok=True)
        output.write_json(path, settings)

    def _prepare(self, path: Path) -> None:
        """Write the pair of folders of one clip, unless both are there."""
        if self._is_done(path):
            return
        clip = self._open(path)
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(open_writer(target, overwrite=True))
                for target in self._targets(path)
            ]
            couples = degrade.degrade_clip(
                self._sharp_frames(clip),
                self.degrade,
                scale=self.scale,
                seed=degrade.clip_seed(clip_pairs.clip_name(path), self.seed),
            )
            couples = progress.track(couples, name=clip_pairs.clip_name(path))
            for couple in couples:
                for writer, image in zip(writers, couple, strict=True):
                    writer.write(image)

    def _targets(self, path: Path) -> list[Path]:
        return [
            self.target / kind / clip_pairs.clip_name(path) for kind in ("gt", "lq")
        ]

    def _is_done(self, path: Path) -> bool:
        return all(target.exists() for target in self._targets(path))

    def _open(self, path: Path) -> clip_reader.ClipReader:
        """Open a clip that is long enough, with a name that is short enough."""
        for target in self._targets(path):
            files.check_name(target)
        clip = clip_reader.open_clip(path)
        if clip.num_frames is not None and clip.num_frames < self.degrade.num_blurred:
            raise InputError(
                f"{path}: {clip.num_frames} frames, but one blurred frame takes "
                f"{self.degrade.num_blurred}; lower --blur-frames or remove the clip"
            )
        return clip

    def _sharp_frames(self, clip: clip_reader.ClipReader) -> Iterator[np.ndarray]:
        """Read a clip, shrunk, its sides cut to multiples of the scale."""
        for frame in clip:
            yield degrade.cut_truth(
                frame, gt_downscale=self.gt_downscale, scale=self.scale
            )


def _read_settings(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: the settings of these pairs cannot be read ({error}); choose "
            "another folder, or delete this one"
        ) from None
