"""``edvr eval`` and ``python eval.py``: a network against bicubic on whole clips."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edvr_jax import progress, weights
from edvr_jax.commands import eval_page, output
from edvr_jax.config import ProtocolName
from edvr_jax.errors import InputError
from edvr_jax.evaluate import evaluator, protocols

COLUMNS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")


@dataclasses.dataclass(frozen=True)
class Eval:
    """Measure PSNR and SSIM of a network on ground-truth clips, beside bicubic.

    Each clip is shrunk by MATLAB bicubic, rounded to 8 bit, restored, and compared
    with the original on luma (y) and color (rgb). A clip's score is the mean over
    its frames, the total the mean over clips.

    Attributes:
        gt: Ground truth: a folder of clips (videos or folders of frames), or one clip;
            with a protocol the folder of its dataset, see docs/data.md, or of records.
        weights: Name of weights that ship, a weights file, or hf://ORG/NAME.
        protocol: Published test set and everything that its tables fix; the options
            from --lq to --padding then do not apply.
        clips: Names of the clips to take (file name without suffix); none takes all.
        lq: Degraded clips of the same names, used instead of shrinking the ground
            truth; needed by networks that keep the size, such as deblurring.
        gt_downscale: Downscale the clips by this first, which hides the compression
            of web video.
        crop: Pixels left out at each side of a frame.
        padding: Frames that stand in for those before the first and after the last.
        frames_per_clip: Take only this many frames from the start of each clip.
        still: Feed copies of the center frame instead of its neighbors. What the
            PSNR then loses is what the network gains from aligning the neighbors.
        json: Write protocol, per-frame, per-clip and mean scores to this file.
        report: Write a web page to look at into this folder: frames to wipe and
            magnify, plots, offsets. Needs the extra edvr-jax[report].
        overwrite: Replace an existing page.
    """

    gt: Path
    weights: str = "edvr_s_x4"
    protocol: ProtocolName | None = None
    clips: tuple[str, ...] = ()
    lq: Path | None = None
    gt_downscale: int = 1
    crop: int = 0
    padding: protocols.Padding = "reflection_circle"
    frames_per_clip: int | None = None
    still: bool = False
    json: Path | None = None
    report: Path | None = None
    overwrite: bool = False

    def run(self) -> None:
        """Evaluate, print the table, write the JSON file and the page."""
        output.check_json(self.json)
        inputs = (self.gt, self.lq)
        eval_page.check_folder(self.report, inputs, overwrite=self.overwrite)
        protocol = self._protocol()
        config, params = weights.load_weights(self.weights)
        paths, source = self._clips(protocol, config.output_scale)
        options: dict[str, Any] = {"protocol": protocol, "progress": _progress}
        report = None
        if self.report is not None:
            report = eval_page.EvalPage(config, params, protocol, len(paths))
            options["record"] = report.record
        clips = []
        for scores in evaluator.evaluate(config, params, paths, **options):
            clips.append(scores)
            if report is not None:
                report.add(scores)
        named = {
            "input": source,
            "scale": config.output_scale,
            **dataclasses.asdict(protocol),
        }
        sys.stdout.write(format_scores(clips) + format_protocol(named))
        output.write_notes(evaluator.describe_infinite(clips))
        if self.json:
            model = {"weights": self.weights, "config": dataclasses.asdict(config)}
            tree = evaluator.report(clips, named)
            output.write_json(self.json, {"gt": str(self.gt), **model, **tree})
        if self.report is not None and report is not None:
            report.write(
                self.report, clips, gt=self.gt, weights=self.weights, protocol=named
            )

    def _protocol(self) -> protocols.Protocol:
        if self.protocol is None:
            return protocols.Protocol(
                gt_downscale=self.gt_downscale,
                crop_border=self.crop,
                padding=self.padding,
                frames_per_clip=self.frames_per_clip,
                still=self.still,
            )
        for name in ("lq", "gt_downscale", "crop", "padding"):
            if getattr(self, name) != getattr(Eval, name):
                raise InputError(
                    f"--{name.replace('_', '-')} is fixed by --protocol "
                    f"{self.protocol}; leave out one of them"
                )
        return dataclasses.replace(
            protocols.TEST_SETS[self.protocol].protocol,
            frames_per_clip=self.frames_per_clip,
            still=self.still,
        )

    def _clips(
        self, protocol: protocols.Protocol, scale: int
    ) -> tuple[Sequence[protocols.EvalClip], str]:
        """Find the clips, and say where the degraded frames come from."""
        if self.protocol is None:
            source = protocols.describe_input(protocol.track, scale, self.lq)
            return protocols.pair_clips(self.gt, self.lq, self.clips), source
        test_set = protocols.TEST_SETS[self.protocol]
        if test_set.scale != scale:
            raise InputError(
                f"--protocol {self.protocol} is for networks of scale "
                f"{test_set.scale}, but {self.weights} has {scale}"
            )
        return protocols.find_clips(test_set, self.gt, self.clips)


def format_protocol(named: Mapping[str, Any]) -> str:
    """Say in one line how the numbers came about."""
    details = ", ".join(
        f"{key} {value}"
        for key, value in named.items()
        if key != "name" and value is not None and value is not False
    )
    return f"protocol {named['name']}: {details}\n"


def format_scores(clips: Sequence[evaluator.ClipScores]) -> str:
    """Tabulate each clip and the mean: the network, what it started from, the gain."""
    rows = [["clip", "frames", "", "PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"]]
    for clip in clips:
        means = {method: clip.mean(method) for method in clip.frames}
        rows += _rows(clip.name, clip.num_frames, means)
    num_frames = sum(clip.num_frames for clip in clips)
    rows += _rows("mean", num_frames, evaluator.mean_over_clips(clips))
    return output.format_table(rows)


def _rows(
    name: str, num_frames: int, means: dict[str, evaluator.Scores]
) -> list[list[str]]:
    model, baseline = means.values()
    gain = {key: model[key] - baseline[key] for key in COLUMNS}
    rows = [
        ["", "", method, *(_cell(key, scores[key]) for key in COLUMNS)]
        for method, scores in means.items()
    ]
    rows[0][:2] = [name, str(num_frames)]
    return [*rows, ["", "", "gain", *(_cell(key, gain[key], "+") for key in COLUMNS)]]


def _cell(key: str, value: float, sign: str = "") -> str:
    if math.isnan(value):  # infinite less infinite
        return "-"
    return f"{value:{sign}.2f}" if key.startswith("psnr") else f"{value:{sign}.4f}"


def _progress(frames: Iterable[Any], name: str) -> Iterable[Any]:
    return progress.track(frames, name=name)
