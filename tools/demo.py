"""``make demo``: restore a bundled real clip and compare it with bicubic.

The low-resolution input is made from the ground truth in ``demo/hawk_rain`` by MATLAB
bicubic 1/4, restored with the shipped weights and measured against the ground truth.
Writes the restored video and one picture: nearest, bicubic, EDVR, ground truth.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import tqdm

from edvr_jax import weights
from edvr_jax.data.imresize import imresize
from edvr_jax.evaluate.metrics import psnr, ssim
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.read.pixels import to_uint8
from edvr_jax.media.write.writer import open_writer
from edvr_jax.restore.restorer import restore_frames

CLIP = Path(__file__).resolve().parent.parent / "demo" / "hawk_rain"
FPS = Fraction(25)  # of the source
CROP = (slice(28, 148), slice(200, 360))  # the head, for the picture
ZOOM = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code is 1 if EDVR is not better than bicubic."""
    parser = argparse.ArgumentParser(description="Restore a bundled real clip.")
    parser.add_argument("--weights", default="edvr_s_x4", help="name or file")
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)

    config, params = weights.load_weights(args.weights)
    scale = config.output_scale
    truth = list(open_clip(CLIP))
    inputs = [resize(frame, 1 / scale) for frame in truth]
    bicubic = [resize(frame, scale) for frame in inputs]
    start = time.perf_counter()
    stream = restore_frames(config, params, inputs)
    restored = [
        to_uint8(frame)
        for frame in tqdm.tqdm(stream, total=len(inputs), unit="frame", disable=None)
    ]
    seconds = (time.perf_counter() - start) / len(restored)

    video = args.output / "hawk_rain_edvr.mp4"
    with open_writer(video, FPS, overwrite=True) as writer:
        for frame in restored:
            writer.write(frame)
    picture = args.output / "comparison.png"
    middle = len(truth) // 2
    save_comparison(
        picture,
        {
            "input (nearest)": resize_nearest(inputs[middle], scale)[CROP],
            "bicubic": bicubic[middle][CROP],
            f"EDVR ({args.weights})": restored[middle][CROP],
            "ground truth": truth[middle][CROP],
        },
    )
    gain = print_scores(truth, bicubic, restored)
    sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in (inputs[0], truth[0])]
    print(f"\n{len(truth)} frames, {sizes[0]} -> {sizes[1]}, {seconds:.2f} s per frame")
    print(f"restored video: {video}\ncomparison:     {picture}")
    return 0 if gain > 0 else 1


def resize(frame: np.ndarray, scale: float) -> np.ndarray:
    """Resize by MATLAB bicubic and round to 8 bit."""
    return to_uint8(imresize(frame, scale) / np.float32(255))


def resize_nearest(frame: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel ``scale`` times along both sides."""
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def print_scores(
    truth: list[np.ndarray], bicubic: list[np.ndarray], restored: list[np.ndarray]
) -> float:
    """Print the mean scores; returns EDVR's gain in dB of luma."""
    print(f"{'':10}{'PSNR-Y':>10}{'SSIM-Y':>10}{'PSNR-RGB':>10}{'SSIM-RGB':>10}")
    means = {}
    for name, frames in (("bicubic", bicubic), ("EDVR", restored)):
        pairs = list(zip(truth, frames, strict=True))
        means[name] = [
            float(np.mean([metric(a, b, channel=channel) for a, b in pairs]))
            for channel in ("y", "rgb")
            for metric in (psnr, ssim)
        ]
    gains = [edvr - baseline for baseline, edvr in zip(*means.values(), strict=True)]
    for name, row in {**means, "gain": gains}.items():
        print(f"{name:10}{row[0]:10.2f}{row[1]:10.4f}{row[2]:10.2f}{row[3]:10.4f}")
    return gains[0]


def save_comparison(path: Path, images: dict[str, np.ndarray]) -> None:
    """Write images side by side, each enlarged and under its name."""
    panels = []
    for name, image in images.items():
        panel = resize_nearest(image, ZOOM)
        header = np.full((32, panel.shape[1], 3), 255, np.uint8)
        font, black = cv2.FONT_HERSHEY_SIMPLEX, (0, 0, 0)
        cv2.putText(header, name, (8, 22), font, 0.6, black, 1, cv2.LINE_AA)
        panels.append(np.vstack([header, panel]))
    cv2.imwrite(str(path), cv2.cvtColor(np.hstack(panels), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    sys.exit(main())
