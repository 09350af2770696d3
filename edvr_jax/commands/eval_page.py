"""The page of ``edvr eval --report``: records clips while they are evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edvr_jax.export as export_lib
from edvr_jax import files
from edvr_jax.commands import output
from edvr_jax.config import NetworkConfig
from edvr_jax.errors import InputError
from edvr_jax.evaluate import evaluator
from edvr_jax.evaluate.protocols import TEST_SETS, Protocol
from edvr_jax.report import maps, page
from edvr_jax.report.recorder import ClipRecorder
from edvr_jax.restore.compiled import create_networks

_COLUMNS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")


def check_folder(
    folder: Path | None, inputs: Sequence[Path | None], *, overwrite: bool
) -> None:
    """Check before the work that a page can be written into a folder after it.

    Args:
        folder: The folder; it may not exist yet. None is no report.
        inputs: Folders of clips, in which a report would be taken for one.
        overwrite: It may replace an earlier page.

    Raises:
        InputError: if it cannot, or may not.
    """
    if folder is None:
        return
    page.check_installed()
    for path in inputs:
        if path is not None and folder.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"--report {folder}: this is inside {path}; give the report another "
                "folder"
            )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--report {folder}: this is a file; name a folder")
    if folder.is_dir():
        output.check_new(folder / page.FILE, overwrite=overwrite)
        output.check_page(folder / page.FILE)
    else:
        output.check_writable(folder)


class EvalPage:
    """Collects what the page shows, clip by clip.

    Args:
        config: Architecture of the network.
        params: Its parameters.
        protocol: What is compared, and how.
        num_clips: Number of clips.
    """

    def __init__(
        self, config: NetworkConfig, params: Any, protocol: Protocol, num_clips: int
    ):
        networks = create_networks(config, params)
        self._network, self._num_networks = networks[0], len(networks)
        self._config, self._protocol = config, protocol
        self._max_bytes = page.MAX_IMAGE_BYTES / min(num_clips, page.MAX_CLIPS)
        self._recorder: ClipRecorder | None = None
        self._clips: list[dict[str, Any]] = []

    def record(self, name: str) -> ClipRecorder | None:
        """Return a recorder for a clip, None if it is one too many."""
        if len(self._clips) == page.MAX_CLIPS:
            self._recorder = None
        else:
            self._recorder = ClipRecorder(
                name,
                self._network.config,
                padding=self._protocol.padding,
                still=self._protocol.still,
            )
        return self._recorder

    def add(self, scores: evaluator.ClipScores) -> None:
        """Take the scores of the clip that was recorded."""
        if self._recorder is None:
            return
        record = self._recorder.finish()
        found, network = None, self._network
        if record.window is not None:
            found = maps.compute(network.config, network.params, record.window)
        clip = page.clip_facts(
            record,
            max_bytes=self._max_bytes,
            maps=found,
            scores=scores,
            channel=self._channel,
        )
        self._clips.append(clip)
        self._recorder = None

    @property
    def _channel(self) -> str:
        """The channel of the published numbers."""
        name = self._protocol.name
        return TEST_SETS[name].channel if name in TEST_SETS else "y"

    def write(
        self,
        folder: Path,
        clips: Sequence[evaluator.ClipScores],
        *,
        gt: Path,
        weights: str,
        protocol: Mapping[str, Any],
    ) -> None:
        """Write the page.

        Args:
            folder: Where; it is created if needed.
            clips: Scores of all clips.
            gt: The ground truth.
            weights: Name of the weights.
            protocol: Everything that decides the numbers, by name.

        Raises:
            OutputError: if it cannot be written.
        """
        means = evaluator.mean_over_clips(clips)
        scale, baseline = self._config.output_scale, list(means)[1]
        num_frames = sum(clip.num_frames for clip in clips)
        settings = {"gt": gt, "weights": weights, "protocol": protocol["name"]}
        settings |= {key: protocol[key] for key in protocol if key != "name"}
        notes = []
        if len(clips) > len(self._clips):
            notes.append(
                f"The table has all {len(clips)} clips; the first {len(self._clips)} "
                "are shown with pictures (--clips chooses)."
            )
        if self._num_networks > 1:
            notes.append(page.FIRST_NETWORK)
        notes += evaluator.describe_infinite(clips)
        text = page.render(
            {
                "kind": "Evaluation",
                "title": f"{Path(weights).name} on {gt.resolve().name}",
                "subtitle": f"{_count(len(clips), 'clip')}, "
                f"{_count(num_frames, 'frame')}: restored (x{scale}) against "
                f"{page.LABELS[baseline].lower()} and the ground truth",
                "tiles": _tiles(means, self._channel),
                "notes": notes,
                "clips": self._clips,
                "table": _table(clips, means, num_frames),
                "settings": {
                    "Evaluation": page.flatten_settings(settings),
                    "Network": page.flatten_settings(vars(self._config)),
                    "Scores": page.flatten_settings(evaluator.DEFINITIONS),
                    "Versions": page.flatten_settings(export_lib.versions()),
                },
            }
        )
        with files.report_failure(folder):
            folder.mkdir(exist_ok=True)
        files.write(folder / page.FILE, text.encode())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _tiles(means: Mapping[str, evaluator.Scores], channel: str) -> list[dict[str, Any]]:
    model, baseline = means.values()
    label = page.LABELS[list(means)[1]].lower()
    psnr, ssim = f"psnr_{channel}", f"ssim_{channel}"
    what = "RGB" if channel == "rgb" else "luma"
    reached = page.format_score(model[psnr])
    gain = page.format_score(model[psnr] - baseline[psnr], psnr, "+")
    return [
        page.tile(f"PSNR, {what}", reached, "dB", is_strong=True),
        page.tile(f"Gain over {label}", gain, "dB", is_strong=True),
        page.tile(f"PSNR of {label}", page.format_score(baseline[psnr]), "dB"),
        page.tile(
            f"SSIM, {what}",
            page.format_score(model[ssim], ssim),
            note=f"{label} {page.format_score(baseline[ssim], ssim)}",
        ),
    ]


def _table(
    clips: Sequence[evaluator.ClipScores],
    means: Mapping[str, evaluator.Scores],
    num_frames: int,
) -> list[dict[str, Any]]:
    groups = [
        (clip.name, clip.num_frames, {m: clip.mean(m) for m in clip.frames})
        for clip in clips
    ]
    if len(clips) > 1:
        groups.append(("Mean", num_frames, dict(means)))
    return [
        {
            "name": name,
            "num_frames": count,
            "rows": _rows(scores),
            "is_mean": len(clips) > 1 and index == len(clips),
        }
        for index, (name, count, scores) in enumerate(groups)
    ]


def _rows(means: Mapping[str, evaluator.Scores]) -> list[dict[str, Any]]:
    model, baseline = means.values()
    rows = [
        {
            "label": page.LABELS[method],
            "method": method,
            "is_gain": False,
            "cells": [page.format_score(scores[key], key) for key in _COLUMNS],
        }
        for method, scores in means.items()
    ]
    cells = [page.format_score(model[k] - baseline[k], k, "+") for k in _COLUMNS]
    return [*rows, {"label": "Gain", "method": "", "is_gain": True, "cells": cells}]
