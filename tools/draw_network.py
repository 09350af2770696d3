"""Draw EDVR-M with the sizes and parameters of its parts: docs/images/network.svg.

    python tools/draw_network.py

Shapes are those of a trace of the network; parameters are counted by their names.
"""

import dataclasses
import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp

from edvr_jax import create_model
from edvr_jax.config import ModelConfig
from edvr_jax.models import params as params_lib

OUTPUT = Path(__file__).resolve().parent.parent / "docs/images/network.svg"
CONFIG = ModelConfig()
HEIGHT, WIDTH = 180, 320

TIMES = " \u00d7 "
BOX_WIDTH, BOX_HEIGHT = 176, 84
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328; text-anchor: middle; }
    .name { font-weight: 600; }
    .small { font-size: 11.5px; fill: #59636e; }
    rect { fill: #eef4fb; stroke: #4078c0; rx: 6; }
    .image { fill: #f6f8fa; stroke: #818b98; }
    .main { fill: #e3f3e6; stroke: #2f8f46; }
    path { fill: none; stroke: #59636e; stroke-width: 1.4; marker-end: url(#head); }
    marker path { fill: #59636e; stroke: none; marker-end: none; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .small { fill: #9198a1; }
      rect { fill: #13233a; }
      .image { fill: #161b22; }
      .main { fill: #12261a; }
      path { stroke: #9198a1; }
      marker path { fill: #9198a1; }
    }"""


@dataclasses.dataclass(frozen=True)
class Box:
    """One part of the network in the figure.

    Attributes:
        x: Left edge, in pixels.
        y: Upper edge, in pixels.
        name: Title.
        lines: Two lines of text under it.
        kind: Class of the style: "", "image" or "main".
        below: Shape of its result, written under the box.
    """

    x: int
    y: int
    name: str
    lines: tuple[str, str]
    kind: str = ""
    below: str = ""

    def svg(self) -> str:
        """Return the box as SVG."""
        middle, (first, second) = self.x + BOX_WIDTH // 2, self.lines
        return f"""<rect class="{self.kind}" x="{self.x}" y="{self.y}"
    width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/>
  <text class="name" x="{middle}" y="{self.y + 24}">{self.name}</text>
  <text class="small" x="{middle}" y="{self.y + 46}">{first}</text>
  <text class="small" x="{middle}" y="{self.y + 64}">{second}</text>
  <text class="small" x="{middle}" y="{self.y + BOX_HEIGHT + 18}">{self.below}</text>"""


def count_parameters(*prefixes: str) -> str:
    """Return how many parameters have one of these prefixes, in thousands."""
    shapes = params_lib.shapes(CONFIG).items()
    total = sum(math.prod(shape) for name, shape in shapes if name.startswith(prefixes))
    return f"{total / 1000:,.0f} k parameters"


def trace() -> dict[str, str]:
    """Return the shapes of the results of the network's parts, for one window."""
    model = create_model(CONFIG)
    frames = jnp.zeros((1, CONFIG.num_frames, HEIGHT, WIDTH, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), frames)

    def shapes_of(method: str, x: jax.Array) -> list[str]:
        function = functools.partial(model.apply, method=method)
        results = jax.tree.leaves(jax.eval_shape(function, variables, x))
        return [TIMES.join(map(str, result.shape[1:])) for result in results]

    return {
        "frames": TIMES.join(map(str, frames.shape[1:])),
        "levels": ", ".join(shapes_of("encode", frames[0])),
        "aligned": shapes_of("align", frames)[0],
        "restored": shapes_of("__call__", frames)[0],
    }


def draw() -> str:
    """Return the figure as SVG."""
    shapes = trace()
    x = [20 + index * (BOX_WIDTH + 56) for index in range(4)]
    top, bottom = 20, 190
    extraction = f"{CONFIG.num_extract_blocks} residual blocks, 3 levels"
    reconstruction = f"{CONFIG.num_reconstruct_blocks} residual blocks"
    counts = {
        "features": count_parameters("conv_first", "feature_extraction", "conv_l"),
        "pcd": count_parameters("pcd_align"),
        "tsa": count_parameters("fusion"),
        "reconstruction": count_parameters("reconstruction"),
        "upsampling": count_parameters("upconv", "conv_hr", "conv_last"),
    }
    fused = shapes["aligned"].split(TIMES, 1)[1]
    boxes = (
        Box(
            x[0], top, "Window of frames", ("RGB in [0, 1]", shapes["frames"]), "image"
        ),
        Box(
            x[1],
            top,
            "Features",
            (extraction, counts["features"]),
            below=shapes["levels"],
        ),
        Box(
            x[2],
            top,
            "PCD alignment",
            ("deformable convolutions", counts["pcd"]),
            "main",
            shapes["aligned"],
        ),
        Box(
            x[3],
            top,
            "TSA fusion",
            ("temporal, spatial attention", counts["tsa"]),
            "main",
            fused,
        ),
        Box(x[3], bottom, "Reconstruction", (reconstruction, counts["reconstruction"])),
        Box(
            x[2], bottom, "Upsampling", ("2 pixel shuffles by 2", counts["upsampling"])
        ),
        Box(
            x[1],
            bottom,
            "Restored frame",
            ("residual + bilinear center", shapes["restored"]),
            "image",
        ),
    )
    above, below = (y + BOX_HEIGHT // 2 for y in (top, bottom))
    down, center = x[3] + BOX_WIDTH - 24, x[0] + BOX_WIDTH // 2
    arrows = (
        *(f"M{x[i] + BOX_WIDTH} {above}H{x[i + 1] - 4}" for i in range(3)),
        f"M{down} {top + BOX_HEIGHT}V{bottom - 4}",
        *(f"M{x[i]} {below}H{x[i - 1] + BOX_WIDTH + 4}" for i in (3, 2)),
        f"M{center} {top + BOX_HEIGHT}V{below}H{x[1] - 4}",
    )
    width, height = x[3] + BOX_WIDTH + 20, bottom + BOX_HEIGHT + 20
    parts = [f'<path d="{arrow}"/>' for arrow in arrows] + [box.svg() for box in boxes]
    body = "\n  ".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
  <title>EDVR-M, x4 super-resolution</title>
  <style>{STYLE}
  </style>
  <marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"
    markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>
  {body}
  <text class="small" x="{center + 56}" y="{below - 8}">center frame</text>
</svg>
"""


if __name__ == "__main__":
    OUTPUT.write_text(draw(), encoding="utf-8")
