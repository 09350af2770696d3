"""``edvr restore``: a video file or a folder of frames in, the same out."""

import dataclasses
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import tqdm
import tyro

from edvr_jax import weights
from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.data.video import Clip, open_clip
from edvr_jax.errors import InputError
from edvr_jax.interruption import INTERRUPTED
from edvr_jax.restore.stream import restore_frames
from edvr_jax.restore.writer import FolderWriter, VideoWriter, open_writer


@dataclasses.dataclass(frozen=True)
class Restore:
    """Restore a video file or a folder of frames: super-resolution or deblurring.

    Frames may have any size. As many frames come out as went in, and they pass a few
    at a time, so the length of the clip does not matter. Sound is not copied. The
    output appears only when it is complete.

    Attributes:
        input: A video file (mp4, mkv, webm, avi, mov, gif, y4m), or a folder with the
            frames of one clip (png, jpg, bmp, tif, webp) in natural order.
        output: A video file (mp4, m4v, mov, mkv; H.264), or a folder for PNG frames.
        weights: Name of weights that ship, or a .safetensors or .pth file, also one
            in a PyTorch layout.
        padding: Frames that stand in for those before the first and after the last.
        crf: Quality of an output video, 0 (best, largest) to 51.
        fps: Frames per second of a video made from a folder of frames; a video keeps
            its own.
        overwrite: Replace an existing output.
    """

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    weights: str = "edvr_s_x4"
    padding: Literal["replicate", "reflection", "reflection_circle", "circle"] = (
        "reflection_circle"
    )
    crf: int = 17
    fps: float = 25.0
    overwrite: bool = False

    def run(self) -> int | None:
        """Restore the clip and say what was written.

        Returns:
            Exit code: None (0), or 130 after Ctrl-C.
        """
        try:
            self._run()
        except KeyboardInterrupt:
            sys.stderr.write(f"\ninterrupted: {self.output} was not written\n")
            return INTERRUPTED
        return None

    def _run(self) -> None:
        # A broken image is reported once, by us.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        clip = open_clip(self.input)
        _check_apart(self.input, self.output)
        if self.fps <= 0:
            raise InputError(f"fps must be positive, got {self.fps}")
        config, params = _load_weights(self.weights)
        start = time.perf_counter()
        with open_writer(
            self.output,
            clip.fps or Fraction(self.fps).limit_denominator(1001),
            names=[path.name for path in clip.frame_paths],
            crf=self.crf,
            overwrite=self.overwrite,
        ) as writer:
            restored = restore_frames(config, params, clip, padding=self.padding)
            for frame in tqdm.tqdm(
                restored, total=clip.num_frames, unit="frame", disable=None
            ):
                writer.write(frame)
        seconds = time.perf_counter() - start
        sys.stdout.write(_summarize(self.output, clip, writer, seconds))


def _check_apart(source: Path, target: Path) -> None:
    inner, outer = source.resolve(), target.resolve()
    if inner == outer:
        raise InputError(f"{target}: the output is the input; choose another name")
    if outer.is_relative_to(inner) or inner.is_relative_to(outer):
        raise InputError(
            f"{target}: the output lies inside the input {source}, or the input "
            "inside the output; put it elsewhere"
        )


def _load_weights(name_or_path: str) -> tuple[ModelConfig | CascadeConfig, Any]:
    """Load weights of a network that takes and gives RGB."""
    config, params = weights.load_weights(name_or_path)
    if isinstance(config, CascadeConfig):
        first, last = config.stage1, config.stage2
    else:
        first = last = config
    if (first.in_channels, last.out_channels) != (3, 3):
        raise InputError(
            f"{name_or_path}: this network takes {first.in_channels} channels and "
            f"gives {last.out_channels}; video needs weights for RGB"
        )
    return config, params


def _summarize(
    target: Path, clip: Clip, writer: VideoWriter | FolderWriter, seconds: float
) -> str:
    (height, width), (new_height, new_width) = clip.size, writer.size
    return (
        f"{target}: {writer.num_frames} frames, {width}x{height} -> "
        f"{new_width}x{new_height}, {seconds / writer.num_frames:.2f} s per frame\n"
    )
