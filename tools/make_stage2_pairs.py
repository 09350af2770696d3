"""Make what a second stage trains on: what a first stage gives, and the truth.

    python -m tools.make_stage2_pairs --clips CLIPS --pairs PAIRS

The clips are blurred as ``edvr prepare --track deblur --gt-downscale 2 --shutter 0.5``
does it, and deblurred by the first stage: PAIRS/lq beside the ground truth, PAIRS/gt.
A training clip gives four short ones, evenly spread, each with another speed of the
hand-held camera. Their frames have one of three sizes, since each size is compiled. A
validation clip gives the first frames, at the speed of the benchmark of
docs/results.md. What is there is left alone, so a stopped run continues; pairs of
another first stage, which PAIRS/first_stage names by its fingerprint, are refused.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from configs import edvr_s_x4
from edvr_jax import cli, files, progress, restore_frames, weights
from edvr_jax.config import DegradeConfig, NetworkConfig
from edvr_jax.data.degrade import clip_seed, cut_truth, degrade_clip
from edvr_jax.errors import InputError
from edvr_jax.media.read.clip_pairs import clip_name, select_clips
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.write.writer import open_writer

MAX_FRAMES = 400  # of a clip
NUM_SHORT, SHORT_FRAMES = 4, 14
VAL_FRAMES, VAL_SPEED = 7, 4.0
SPEEDS = (2.0, 8.0)  # pixels per frame
MAX_SIZE = (600, 640)  # height and width before the camera moves
SIZES = ((256, 480), (192, 400), (140, 320))

Pair = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class MakeStage2Pairs:
    """Make the pairs.

    Attributes:
        clips: Folder of the clips, see configs/edvr_s_x4.py.
        pairs: Folder for the pairs.
        weights: The first stage.
        val_clips: Names of the validation clips.
    """

    clips: Path
    pairs: Path
    weights: str = "edvr_s_deblur"
    val_clips: tuple[str, ...] = edvr_s_x4.get_config().data.val_clips

    def run(self) -> None:
        """Make those that are missing."""
        config, params = weights.load_weights(self.weights)
        self._claim(weights.fingerprint(params))
        for path in progress.track(select_clips(self.clips), unit="clip"):
            name = clip_name(path)
            is_val = name in self.val_clips
            last = name if is_val else f"{name}_{NUM_SHORT - 1}"
            if (self.pairs / "lq" / last).exists():
                continue
            frames = itertools.islice(open_clip(path), MAX_FRAMES)
            sharp = [cut_truth(frame, gt_downscale=2, scale=1) for frame in frames]
            if is_val:
                self._write(name, _val_pairs(name, sharp), config, params)
                continue
            for index, pairs in enumerate(_short_clips(name, sharp)):
                self._write(f"{name}_{index}", pairs, config, params)

    def _claim(self, fingerprint: str) -> None:
        """Check that what is in the folder was made by this first stage."""
        made_by = self.pairs / "first_stage"
        if made_by.exists():
            is_ours = made_by.read_text("utf-8") == fingerprint
        else:
            is_ours = not self.pairs.exists() or not any(self.pairs.iterdir())
        if not is_ours:
            raise InputError(
                f"{self.pairs}: its pairs were not made by the first stage "
                f"{self.weights}; choose another folder, or delete it"
            )
        self.pairs.mkdir(parents=True, exist_ok=True)
        files.write(made_by, fingerprint.encode())
        for kind in ("gt", "lq"):
            (self.pairs / kind).mkdir(exist_ok=True)

    def _write(
        self, name: str, pairs: list[Pair], config: NetworkConfig, params: Any
    ) -> None:
        """Write the truth, then what the first stage gives."""
        blurred = [image for _, image in pairs]
        restored = restore_frames(config, params, blurred, dtype="uint8")
        for kind, images in (("gt", (image for image, _ in pairs)), ("lq", restored)):
            with open_writer(self.pairs / kind / name, overwrite=True) as writer:
                for image in images:
                    writer.write(image)


def _val_pairs(name: str, sharp: list[np.ndarray]) -> list[Pair]:
    degrade = _shaken(VAL_SPEED)
    return list(
        degrade_clip(sharp[:VAL_FRAMES], degrade, scale=1, seed=clip_seed(name))
    )


def _short_clips(name: str, sharp: list[np.ndarray]) -> Iterator[list[Pair]]:
    """Yield the pairs of each short clip, all of one of the sizes."""
    rng = np.random.default_rng(clip_seed(name))
    starts = np.linspace(0, max(len(sharp) - SHORT_FRAMES, 0), NUM_SHORT).astype(int)
    size = np.array(sharp[0].shape[:2])
    for start in starts:
        top, left = rng.integers(np.maximum(size - MAX_SIZE, 0) + 1)
        rows, columns = slice(top, top + MAX_SIZE[0]), slice(left, left + MAX_SIZE[1])
        frames = [image[rows, columns] for image in sharp[start : start + SHORT_FRAMES]]
        degrade = _shaken(float(rng.uniform(*SPEEDS)))
        seed = int(rng.integers(2**31))
        pairs = degrade_clip(frames, degrade, scale=1, seed=seed)
        yield [(_cut(name, truth), _cut(name, image)) for truth, image in pairs]


def _shaken(speed: float) -> DegradeConfig:
    return DegradeConfig(track="deblur", shutter=0.5, shake=speed)


def _cut(name: str, image: np.ndarray) -> np.ndarray:
    """Cut out the middle, in landscape, in the first of the sizes that fits."""
    if image.shape[0] > image.shape[1]:
        image = image.swapaxes(0, 1)
    size = image.shape[:2]
    fitting = [s for s in SIZES if s[0] <= size[0] and s[1] <= size[1]]
    if not fitting:
        raise InputError(
            f"{name}: {size[0]} x {size[1]} pixels are left of its frames, at least "
            f"{SIZES[-1][0]} x {SIZES[-1][1]} are needed"
        )
    height, width = fitting[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return image[top : top + height, left : left + width]


if __name__ == "__main__":
    sys.exit(cli.run(lambda: tyro.cli(MakeStage2Pairs).run()))
