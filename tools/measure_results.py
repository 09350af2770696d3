"""Measure the networks that ship: docs/results/NAME.json and the pictures.

    python -m tools.measure_results --clips CLIPS --calendar CALENDAR

CLIPS holds the validation clips of configs/edvr_s_x4.py, CALENDAR the frames of the
ground truth of Vid4's calendar. ``write_results`` makes the tables from the
JSON files. Seconds per frame are measured too: let nothing else run.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from configs import edvr_s_x4
from edvr_jax import files, progress, weights
from edvr_jax.config import DegradeConfig, NetworkConfig
from edvr_jax.data.degrade import clip_seed, cut_truth, degrade_clip
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.evaluate import evaluator
from edvr_jax.media.read.clip_pairs import clip_name, select_clips
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.models import params as params_lib
from edvr_jax.restore.restorer import restore_frames
from tools.demo import save_comparison

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
IMAGES = ROOT / "docs" / "images"

VALIDATION = edvr_s_x4.get_config().data.val_clips
NUM_CALENDAR = 15

SR = DegradeConfig()
SHAKEN = [DegradeConfig(track="deblur", shutter=0.5, shake=s) for s in (4.0, 8.0)]
CODED = [DegradeConfig(track="sr_comp", crf=crf) for crf in (23, 28, 33)]


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of input.

    Attributes:
        name: Its name in the JSON file.
        degrade: How the input is made from the ground truth.
        is_calendar: Vid4's calendar, 15 frames that are not shrunk, instead of the
            validation clips.
        num_frames: Frames of a clip that are compared.
        ensemble: Also restore by the self-ensemble, in four times the time.
    """

    name: str
    degrade: DegradeConfig
    is_calendar: bool = False
    num_frames: int = 10
    ensemble: bool = False


DEBLUR = tuple(
    Case(f"shake {degrade.shake:.0f}", degrade, num_frames=5, ensemble=True)
    for degrade in SHAKEN
)

CASES = {
    "edvr_s_x4": (
        Case("clean", SR),
        Case("calendar", SR, is_calendar=True, num_frames=NUM_CALENDAR),
    ),
    "edvr_s_x2_web": (
        *(Case(f"crf {degrade.crf}", degrade) for degrade in CODED),
        Case("clean", SR),
    ),
    "edvr_s_deblur": DEBLUR,
    "edvr_s_deblur_stage2": DEBLUR,
}

# Clip, case, frame, rows and columns of the ground truth.
SHAKEN_HAWK = ("hawk_rain_540p", "shake 4", 2, slice(20, 140), slice(140, 300))
PICTURES = {
    "edvr_s_x4": ("cars_close_768p", "clean", 4, slice(0, 120), slice(100, 260)),
    "edvr_s_x2_web": ("hawk_rain_540p", "crf 28", 4, slice(60, 180), slice(200, 360)),
    "edvr_s_deblur": SHAKEN_HAWK,
    "edvr_s_deblur_stage2": SHAKEN_HAWK,
}
TITLES = {
    "lanczos": "Lanczos",
    "input": "input",
    "still": "EDVR-S, no neighbors",
    "model": "EDVR-S",
    "ensemble": "EDVR-S, ensemble",
    "truth": "ground truth",
}


@dataclasses.dataclass(frozen=True)
class MeasureResults:
    """Measure the networks that ship.

    Attributes:
        clips: Folder with the six validation clips.
        calendar: Folder of the frames of Vid4's calendar, ground truth.
        only: Names of the networks to measure.
    """

    clips: Path
    calendar: Path
    only: tuple[str, ...] = tuple(CASES)

    def run(self) -> None:
        """Measure, and write a JSON file and a picture for each network."""
        for name in self.only:
            with files.replacing(RESULTS / f"{name}.json") as temporary:
                text = json.dumps(self._measure(name), indent=1)
                temporary.write_text(text + "\n", "utf-8")

    def _measure(self, name: str) -> dict[str, Any]:
        config, params = weights.load_weights(name)
        path = ROOT / "edvr_jax" / "weights" / f"{name}.safetensors"
        cases: dict[str, Any] = {}
        for case in CASES[name]:
            pairs = read(case, self.clips, self.calendar, config.output_scale)
            total = 1 if case.is_calendar else len(VALIDATION)
            pairs = progress.track(
                pairs, name=f"{name}, {case.name}", total=total, unit="clip"
            )
            cases[case.name] = {}
            for clip, truth, degraded in pairs:
                images = restore(config, params, degraded, ensemble=case.ensemble)
                scores = score(truth, images)
                cases[case.name][clip] = {"frames": len(truth), **scores}
                if PICTURES[name][:2] == (clip, case.name):
                    _draw(name, {**images, "truth": truth})
        return {
            "network": name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
            "parameters": params_lib.count(config),
            "scale": config.output_scale,
            "seconds_per_frame": _seconds_per_frame(config, params),
            "cores": os.cpu_count(),
            "cases": cases,
        }


def _seconds_per_frame(config: NetworkConfig, params: Any) -> float:
    """Time frames of 1280x720, decoding and encoding not included."""
    height, width = 720 // config.output_scale, 1280 // config.output_scale
    frames = np.random.default_rng(0).integers(256, size=(9, height, width, 3))
    stream = restore_frames(config, params, frames.astype(np.uint8), dtype="uint8")
    next(stream)  # compiles
    began = time.perf_counter()
    num_frames = len(list(stream))
    return round((time.perf_counter() - began) / num_frames, 2)


def read(
    case: Case, clips: Path, calendar: Path, scale: int
) -> Iterator[tuple[str, list[np.ndarray], list[np.ndarray]]]:
    """Yield name, ground truth and input of each clip, the frames that are compared.

    More frames than those are compressed, since the last ones of a video are better.
    """
    paths = [calendar] if case.is_calendar else select_clips(clips, VALIDATION)
    gt_downscale = 1 if case.is_calendar else 2
    for path in paths:
        sharp = (
            cut_truth(frame, gt_downscale=gt_downscale, scale=scale)
            for frame in itertools.islice(open_clip(path), NUM_CALENDAR)
        )
        seed = clip_seed(clip_name(path))
        pairs = list(degrade_clip(sharp, case.degrade, scale=scale, seed=seed))
        pairs = pairs[: case.num_frames]
        yield clip_name(path), [x for x, _ in pairs], [x for _, x in pairs]


def restore(
    config: NetworkConfig,
    params: Any,
    frames: Sequence[np.ndarray],
    *,
    ensemble: bool = False,
) -> dict[str, list[np.ndarray]]:
    """Restore frames by each method; "still" is the network without neighbors."""
    scale = config.output_scale
    images = {"input": list(frames)}
    if scale > 1:
        images = {
            "bicubic": [imresize_uint8(x, scale) for x in frames],
            "lanczos": [_lanczos(x, scale) for x in frames],
        }

    def by_network(
        window: Sequence[np.ndarray], *, ensemble: bool = False
    ) -> Iterator[np.ndarray]:
        return restore_frames(config, params, window, ensemble=ensemble, dtype="uint8")

    images["still"] = [next(by_network([x])) for x in frames]
    images["model"] = list(by_network(frames))
    if ensemble:
        images["ensemble"] = list(by_network(frames, ensemble=True))
    return images


def score(
    truth: Sequence[np.ndarray], images: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, dict[str, float]]:
    """Return the mean scores of each method over the frames."""
    frames = {
        method: [evaluator.score(*pair, 0) for pair in zip(truth, found, strict=True)]
        for method, found in images.items()
    }
    clip = evaluator.ClipScores("clip", frames)
    return {
        method: {key: round(value, 4) for key, value in clip.mean(method).items()}
        for method in images
    }


def _lanczos(frame: np.ndarray, scale: int) -> np.ndarray:
    height, width, _ = frame.shape
    image = Image.fromarray(frame)
    size = width * scale, height * scale
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def _draw(name: str, images: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write crops of one frame side by side, each under its name."""
    _, _, index, *crop = PICTURES[name]
    panels = {
        title: images[key][index][tuple(crop)]
        for key, title in TITLES.items()
        if key in images
    }
    save_comparison(IMAGES / f"results_{name}.jpg", panels)


if __name__ == "__main__":
    tyro.cli(MeasureResults).run()
