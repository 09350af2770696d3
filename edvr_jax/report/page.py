"""The page: facts of plain values, and the template that shows them.

Facts are a dict that the template alone interprets: "kind", "title", "subtitle",
"tiles" (big numbers), "table" (scores of all clips), "clips" (see :func:`clip_facts`),
"notes" and "settings".
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edvr_jax.errors import needs_extra
from edvr_jax.evaluate.evaluator import ClipScores
from edvr_jax.media.read.pixels import width_x_height
from edvr_jax.report import pictures, plot
from edvr_jax.report.maps import LEVELS, Maps
from edvr_jax.report.recorder import MAX_ROWS, Record

FILE = "index.html"
MAX_CLIPS = 8  # with pictures; the table has all
MAX_IMAGE_BYTES = 10.5e6  # base64 adds a third
FIRST_NETWORK = "Maps are those of the first network; those after it have their own."
LABELS = {
    "model": "Restored",
    "bicubic": "Bicubic",
    "input": "Input",
    "truth": "Truth",
}
# Shares of a clip's images.
_SHOTS, _PROFILE, _WINDOW, _MAPS = 0.72, 0.1, 0.05, 0.13
_TEMPLATE = "page.html.jinja"
_OFFSET_COLORS, _ATTENTION_COLORS = cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_MAGMA


def check_installed() -> None:
    """Check before the work that a page can be rendered after it.

    Raises:
        InputError: if jinja2 is missing.
    """
    with needs_extra("report", "a report as a web page needs jinja2"):
        import jinja2  # noqa: F401


def render(facts: Mapping[str, Any]) -> str:
    """Return the page, which needs no other file and no network."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = format_score
    return environment.get_template(_TEMPLATE).render(facts)


def tile(
    label: str, value: str, unit: str = "", *, note: str = "", is_strong: bool = False
) -> dict[str, Any]:
    """Return a big number of the page's head."""
    return {
        "label": label,
        "value": value,
        "unit": unit,
        "note": note,
        "strong": is_strong,
    }


def format_score(value: float | None, key: str = "psnr", sign: str = "") -> str:
    """Write a score as the command line does; None is an infinite one."""
    if value is None or math.isinf(value):
        return "∞"
    if math.isnan(value):
        return "-"  # infinite less infinite
    return f"{value:{sign}.2f}" if key.startswith("psnr") else f"{value:{sign}.4f}"


def clip_facts(
    record: Record,
    *,
    max_bytes: float,
    maps: Maps | None = None,
    scores: ClipScores | None = None,
    channel: str = "y",
    heading: str | None = None,
) -> dict[str, Any]:
    """Return what the page shows of one clip.

    Args:
        record: The frames that were kept.
        max_bytes: For all images of the clip.
        maps: Of the record's window; None if the network's parameters are unknown.
        scores: Of each frame; None without a ground truth.
        channel: Of the scores in the plot, "y" or "rgb".
        heading: Of its section; None is the clip's name.
    """
    facts: dict[str, Any] = {
        "name": record.name,
        "heading": record.name if heading is None else heading,
        "num_frames": record.num_frames,
        "notes": [],
        "shots": [],
        "profile": None,
        "maps": None,
        "scores": None if scores is None else _score_facts(scores, channel),
    }
    if record.box is None:
        facts["notes"].append("No frame was restored in this run.")
        return facts
    box = record.box
    facts["size"] = width_x_height(box.size)
    if not box.is_whole:
        part = width_x_height((box.height, box.width))
        facts["notes"].append(f"Pictures show the central {part} of {facts['size']}.")
    _add_shots(facts, record, max_bytes * _SHOTS)
    _add_profile(facts, record, max_bytes * _PROFILE)
    if maps is not None and maps.note:
        facts["notes"].append(maps.note)
    elif maps is not None:
        _add_maps(facts, record, maps, max_bytes)
    return facts


def _score_facts(scores: ClipScores, channel: str) -> dict[str, Any]:
    keys = f"psnr_{channel}", f"ssim_{channel}"
    psnr = {
        method: [frame[keys[0]] for frame in frames]
        for method, frames in scores.frames.items()
    }
    return {
        "channel": channel.upper() if channel == "rgb" else "luma",
        "keys": keys,
        "labels": {method: LABELS[method] for method in psnr},
        "means": {method: scores.mean(method)[keys[0]] for method in psnr},
        "frames": scores.frames,
        "psnr": {
            method: [f"{format_score(value)} dB" for value in values]
            for method, values in psnr.items()
        },
        "plot": plot.lines(psnr),
    }


def _order(names: Sequence[str]) -> list[str]:
    """Order images as the page shows them: worse first."""
    return [name for name in ("input", "bicubic", "model", "truth") if name in names]


def _add_shots(facts: dict[str, Any], record: Record, max_bytes: float) -> None:
    assert record.box is not None
    names = _order(list(record.shots[0].images))
    images = [shot.images[name] for shot in record.shots for name in names]
    uris, how = pictures.encode(images, max_bytes)
    sources = iter(uris)
    facts["layers"] = {name: LABELS[name] for name in names}
    facts["width"], facts["height"] = record.box.width, record.box.height
    facts["stored"] = how
    first = record.shots[0].images
    facts["focus"] = most_changed(first[names[0]], first["model"])
    for shot in record.shots:
        facts["shots"].append(
            {
                "index": shot.index,
                "position": shot.position,
                "images": {name: next(sources) for name in names},
            }
        )


def most_changed(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Return where two images differ most, where the magnifier opens.

    Args:
        before: [H, W, 3], uint8.
        after: Of the same shape.

    Returns:
        x and y as parts of the width and the height.
    """
    height, width = after.shape[:2]
    change = cv2.absdiff(before, after).astype(np.float32).mean(axis=-1)
    side = max(1, min(height, width) // 8)
    # Beyond the border nothing changes, so the magnifier stays inside.
    change = cv2.blur(change, (side, side), borderType=cv2.BORDER_CONSTANT)
    y, x = divmod(int(np.argmax(change)), width)
    return round((x + 0.5) / width, 4), round((y + 0.5) / height, 4)


def _add_profile(facts: dict[str, Any], record: Record, max_bytes: float) -> None:
    assert record.box is not None
    names = _order(list(record.profile))
    uris, how = pictures.encode([record.profile[name] for name in names], max_bytes)
    num_rows = len(record.profile[names[0]])
    facts["profile"] = {
        "row": record.box.y + record.row,
        "top": 100 * (record.row + 0.5) / record.box.height,
        "num_rows": num_rows,
        "images": dict(zip(names, uris, strict=True)),
        "stored": how,
    }
    if num_rows < record.num_frames:
        assert num_rows == MAX_ROWS
        facts["notes"].append(
            f"The temporal profile shows the first {num_rows} frames."
        )


def _add_maps(
    facts: dict[str, Any], record: Record, maps: Maps, max_bytes: float
) -> None:
    assert record.window is not None
    assert record.window_box is not None
    uris, _ = pictures.encode(list(record.window), max_bytes * _WINDOW)
    row_bytes = max_bytes * _MAPS / (len(maps.offsets) + 1)
    rows = []
    for name, lengths in maps.offsets.items():
        high = max(_percentile(lengths), 1e-3)
        unit = LEVELS[name]
        rows.append(
            {
                "name": name.capitalize(),
                "what": "length of the mean offset",
                "images": _as_uris(lengths, (0, high), _OFFSET_COLORS, row_bytes),
                "means": [f"{values.mean():.2f}" for values in lengths],
                "unit": "px",
                "low": "0",
                "high": f"{high:.2g} px",
                "stops": pictures.color_stops(_OFFSET_COLORS),
                "note": "" if unit == 1 else f"1 px here is {unit} px of level 1",
            }
        )
    if maps.attention is not None:
        low, high = float(maps.attention.min()), float(maps.attention.max())
        high = max(high, low + 1e-3)
        rows.append(
            {
                "name": "Attention",
                "what": "temporal attention",
                "images": _as_uris(
                    maps.attention, (low, high), _ATTENTION_COLORS, row_bytes
                ),
                "means": [f"{values.mean():.2f}" for values in maps.attention],
                "unit": "",
                "low": f"{low:.2f}",
                "high": f"{high:.2f}",
                "stops": pictures.color_stops(_ATTENTION_COLORS),
                "note": "similarity to the center, 0 to 1",
            }
        )
    facts["maps"] = {
        "index": record.window_index,
        "frames": uris,
        "center": record.window_center,
        "aspect": round(record.window_box.width / record.window_box.height, 3),
        "rows": rows,
    }
    if not record.window_box.is_whole:
        box = record.window_box
        part = width_x_height((box.height, box.width))
        whole = width_x_height(box.size)
        facts["notes"].append(f"Maps are of the central {part} of the input's {whole}.")


def _percentile(values: np.ndarray) -> float:
    """Return the end of a color scale: a few large offsets must not darken the rest."""
    return float(np.percentile(values, 99.5))


def _as_uris(
    values: np.ndarray, span: tuple[float, float], scale: int, max_bytes: float
) -> list[str]:
    images = [pictures.color_map(image, *span, scale) for image in values]
    return pictures.encode(images, max_bytes)[0]


def flatten_settings(
    tree: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, str]]:
    """Return nested settings as rows of name and text, without those that are None."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}".replace("_", " ")
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if isinstance(value, Mapping):
            rows += flatten_settings(value, f"{name}: ")
        elif isinstance(value, bool):
            rows.append((name, "yes" if value else "no"))
        elif isinstance(value, list | tuple):
            if value:
                rows.append((name, ", ".join(map(str, value))))
        elif value is not None:
            rows.append((name, str(value)))
    return rows
