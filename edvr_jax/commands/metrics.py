"""``edvr metrics``: PSNR and SSIM of restored clips, by the published protocol."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from edvr_jax.commands import output
from edvr_jax.errors import InputError
from edvr_jax.evaluate import evaluator, metrics
from edvr_jax.media.read import clip_pairs, clip_reader

METHOD = "pred"


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Compare restored clips with the ground truth: PSNR and SSIM.

    Images are rounded to 8 bit and compared in float64; SSIM has an 11x11 Gaussian
    window. A clip's score is the mean over its frames, the total the mean over clips.
    Published protocols: REDS4 rgb without crop, Vid4 y without crop (DUF: crop 8).

    Attributes:
        gt: Ground truth: a folder of clips, a folder of frames, or a video.
        pred: Restored clips: likewise. Clips belong together by name, frames by
            their order.
        channel: rgb: all colors alike; y: BT.601 studio-range luma.
        crop: Pixels left out at each side of a frame.
        json: Write protocol, per-frame, per-clip and mean scores to this file.
    """

    gt: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GT")]
    pred: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PRED")]
    channel: metrics.Channel = "rgb"
    crop: int = 0
    json: Path | None = None

    def run(self) -> None:
        """Compare, print the table, write the JSON file."""
        output.check_json(self.json)
        clips = [
            self._compare(*paths)
            for paths in clip_pairs.match_clips(self.gt, self.pred, is_exact=True)
        ]
        sys.stdout.write(self._table(clips))
        output.write_notes(evaluator.describe_infinite(clips))
        if self.json:
            protocol = {"channel": self.channel, "crop_border": self.crop}
            tree = evaluator.report(clips, protocol)
            paths = {"gt": str(self.gt), "pred": str(self.pred)}
            output.write_json(self.json, {**paths, **tree})

    def _compare(self, gt_path: Path, pred_path: Path) -> evaluator.ClipScores:
        gt, pred = clip_reader.open_clip(gt_path), clip_reader.open_clip(pred_path)
        scores = list(self._score_frames(gt, pred))
        return evaluator.ClipScores(gt.name, {METHOD: scores})

    def _score_frames(
        self, gt: clip_reader.ClipReader, pred: clip_reader.ClipReader
    ) -> Iterator[evaluator.Scores]:
        options = {"crop_border": self.crop, "channel": self.channel}
        name = f"{gt.path} and {pred.path}"
        for index, (a, b) in enumerate(clip_pairs.join_frames(gt, pred, name=name)):
            try:
                psnr, ssim = (
                    metrics.psnr(a, b, **options),
                    metrics.ssim(a, b, **options),
                )
            except InputError as error:
                raise InputError(f"{pred.path}: frame {index}: {error}") from None
            yield {"psnr": psnr, "ssim": ssim}

    def _table(self, clips: list[evaluator.ClipScores]) -> str:
        channel = self.channel.upper()
        rows = [["clip", "frames", f"PSNR-{channel}", f"SSIM-{channel}"]]
        for clip in clips:
            scores = clip.mean(METHOD)
            rows.append([clip.name, str(clip.num_frames), *_cells(scores)])
        num_frames = sum(clip.num_frames for clip in clips)
        total = evaluator.mean_over_clips(clips)[METHOD]
        rows.append(["mean", str(num_frames), *_cells(total)])
        return output.format_table(rows)


def _cells(scores: evaluator.Scores) -> list[str]:
    return [f"{scores['psnr']:.4f}", f"{scores['ssim']:.4f}"]
