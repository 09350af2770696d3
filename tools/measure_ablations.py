"""Train EDVR-S without one of its parts each: docs/results/ablations.json.

    python -m tools.measure_ablations --clips CLIPS --runs RUNS

Every variant is trained on the same windows for the same number of steps, after as many
steps of the alignment alone. The features and the reconstruction start from
``edvr_s_x4``, which has them; the alignment and the fusion, which are compared, start
fresh. The same command continues where it was stopped.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import tyro

from configs import edvr_s_x4
from edvr_jax import create_model, files
from edvr_jax.config import (
    CascadeConfig,
    Config,
    EvalConfig,
    FidelityConfig,
    InitConfig,
    NetworkConfig,
)
from edvr_jax.models import PCDAlignment
from edvr_jax.models.layers import leaky_relu
from edvr_jax.train import train
from tools.measure_results import RESULTS

# What the variants have in common; the rest of the network starts fresh.
SHARED = (
    *edvr_s_x4.FEATURES,
    *edvr_s_x4.RECONSTRUCTION,
    *("upconv1", "upconv2"),
)

# Smaller than those of the network that ships, for speed; the alignment has those.
GT_CROP = 96
SCORES = ("psnr_y", "psnr_y_still", "psnr_y_bicubic", "flow_correlation")

OUTPUT = RESULTS / "ablations.json"


class WithoutPyramid(PCDAlignment):
    """Aligns at level 1 only."""

    @nn.nowrap
    def align_pyramid(self, neighbor, reference):
        """Align by one deformable convolution."""
        offset = self._offset_conv("offset_conv1_l1", neighbor[0], reference[0])
        offset = self._offset_conv("offset_conv2_l1", offset)
        offset = self._offset_conv("offset_conv3_l1", offset)
        return self._dcn("dcn_pack_l1", neighbor[0], offset)


class WithoutCascade(PCDAlignment):
    """Does not correct what the pyramid has aligned."""

    @nn.nowrap
    def cascade(self, aligned, reference):
        """Return the aligned features as they are."""
        return leaky_relu(aligned)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network that lacks something.

    Attributes:
        title: What it lacks, for the table.
        changes: Fields of the network's configuration that differ.
        alignment: Class in place of PCDAlignment; None aligns nothing.
        has_fidelity: Whether the offset-fidelity loss guides it. Without, there is no
            training of the alignment alone.
        aligned_as: Variant whose alignment alone is the same; None is the variant.
    """

    title: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    alignment: type[PCDAlignment] | None = PCDAlignment
    has_fidelity: bool = True
    aligned_as: str | None = None


VARIANTS = {
    "full": Variant("EDVR-S"),
    "no_fidelity": Variant("without the offset-fidelity loss", has_fidelity=False),
    "no_pyramid": Variant("without the pyramid", alignment=WithoutPyramid),
    "no_cascade": Variant("without the cascade", alignment=WithoutCascade),
    "no_tsa": Variant("without TSA", {"with_tsa": False}, aligned_as="full"),
    "3_frames": Variant("3 frames", {"num_frames": 3}, aligned_as="full"),
    "1_frame": Variant(
        "1 frame",
        {"num_frames": 1, "with_tsa": False, "with_alignment": False},
        alignment=None,
        has_fidelity=False,
    ),
}


@dataclasses.dataclass(frozen=True)
class MeasureAblations:
    """Train the variants of EDVR-S, and note their validations.

    Attributes:
        clips: Folder of the training and validation clips, see configs/edvr_s_x4.py.
        runs: Folder of the runs and of the decoded frames.
        align_steps: Steps of the alignment alone.
        steps: Steps of the whole network.
        only: Names of the variants to train.
        max_frames_per_clip: Take so many frames of each training clip.
    """

    clips: Path
    runs: Path
    align_steps: int = 3_000
    steps: int = 2_000
    only: tuple[str, ...] = tuple(VARIANTS)
    max_frames_per_clip: int = 100

    def run(self) -> None:
        """Train each variant; write what is there after each."""
        found = json.loads(OUTPUT.read_text("utf-8")) if OUTPUT.exists() else {}
        for name in self.only:
            found[name] = {
                "title": VARIANTS[name].title,
                "align_steps": self.align_steps if VARIANTS[name].has_fidelity else 0,
                "steps": self.steps,
                **read_scores(self._train(name).parent),
            }
            ordered = {key: found[key] for key in VARIANTS if key in found}
            with files.replacing(OUTPUT) as temporary:
                temporary.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")

    def _train(self, name: str) -> Path:
        """Train both phases, or continue them; return the average of the parameters."""
        variant = VARIANTS[name]
        config = edvr_s_x4.get_whole_config()
        network = dataclasses.replace(config.model, **variant.changes)
        start = edvr_s_x4.take("edvr_s_x4", SHARED)
        if variant.has_fidelity:
            align = edvr_s_x4.get_align_config()
            optim = dataclasses.replace(align.optim, period_steps=(self.align_steps,))
            align = dataclasses.replace(
                align, optim=optim, total_steps=self.align_steps
            )
            source = variant.aligned_as or name
            start = (str(self._run(source, "align", align, start)),)
        fidelity = config.optim.fidelity if variant.has_fidelity else FidelityConfig()
        optim = dataclasses.replace(
            config.optim,
            period_steps=(self.steps,),
            restart_weights=(1.0,),
            ema_decay=0.995,
            fidelity=fidelity,
        )
        whole = dataclasses.replace(
            config,
            model=network,
            optim=optim,
            data=dataclasses.replace(config.data, gt_crop=GT_CROP),
            init=InitConfig(fresh=("fusion",) if variant.alignment else ()),
            total_steps=self.steps,
        )
        return self._run(name, "all", whole, start)

    def _run(
        self, name: str, phase: str, config: Config, start: tuple[str, ...]
    ) -> Path:
        data = dataclasses.replace(
            config.data, max_frames_per_clip=self.max_frames_per_clip
        )
        evaluation = EvalConfig(every_steps=config.total_steps, frames_per_clip=10)
        workdir = self.runs / name / phase
        train(
            dataclasses.replace(config, data=data, eval=evaluation),
            data=self.clips,
            workdir=workdir,
            cache=self.runs / "frames",
            init=start,
            model=make_model(VARIANTS[name], config.model),
        )
        return workdir / "ema.safetensors"


def read_scores(workdir: Path) -> dict[str, float]:
    """Return what the last validation of a run found."""
    lines = (workdir / "log.jsonl").read_text("utf-8").splitlines()
    scores = [line for line in map(json.loads, lines) if "psnr_y" in line][-1]
    return {key: round(scores[key], 4) for key in SCORES if key in scores}


def make_model(variant: Variant, config: NetworkConfig) -> nn.Module:
    """Return the variant's network."""
    if isinstance(config, CascadeConfig) or variant.alignment is None:
        return create_model(config)
    alignment = variant.alignment(config.num_features, config.deformable_groups)
    return create_model(config, pcd_align=alignment)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    tyro.cli(MeasureAblations).run()
