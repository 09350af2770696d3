"""Write docs/results.md, and the table on top of docs/weights.md, from docs/results.

    python -m tools.write_results

The JSON files come from ``measure_results.py`` and ``measure_ablations.py``;
``published.json`` is copied from the sources that it names. What this writes is never
edited by hand: a test compares the pages with it.
"""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import jinja2

from edvr_jax import files
from tools.measure_results import CASES, RESULTS

DOCS = RESULTS.parent
ABLATIONS = RESULTS / "ablations.json"  # hours of training
PAGES = ("results.md", "weights.md")

# The table in a page that is otherwise written by hand.
_ZOO = re.compile(r"(<!-- zoo -->\n).*?(<!-- end of zoo -->)", re.DOTALL)

TASKS = {
    "edvr_s_x4": "x4 super-resolution of clean video",
    "edvr_s_x2_web": "x2 super-resolution of compressed video",
    "edvr_s_deblur": "removing motion blur",
    "edvr_s_deblur_stage2": "removing motion blur, in two stages",
}
# The case by which a network is judged in the overview.
MAIN_CASE = {
    "edvr_s_x4": "clean",
    "edvr_s_x2_web": "crf 28",
    "edvr_s_deblur": "shake 4",
    "edvr_s_deblur_stage2": "shake 4",
}
# Methods without a network; the last one measured is the baseline.
PLAIN = {"bicubic": "bicubic", "lanczos": "Lanczos", "input": "input"}


def main() -> None:
    """Write both pages."""
    for name in PAGES:
        with files.replacing(DOCS / name) as temporary:
            temporary.write_text(render(name), "utf-8")


def render(name: str) -> str:
    """Return the text of a page of docs/."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters |= {"score": _score, "gain": _gain, "mb": _megabytes}
    networks = [_network(name) for name in CASES]
    if name == "results.md":
        template = environment.get_template("results.md.jinja")
        return template.render(
            networks=networks,
            ablations=_read("ablations") if ABLATIONS.exists() else {},
            published=_read("published"),
        )
    zoo = environment.get_template("zoo.md.jinja").render(networks=networks)
    page = (DOCS / name).read_text("utf-8")
    return _ZOO.sub(lambda found: found[1] + zoo + found[2], page)


def _network(name: str) -> dict[str, Any]:
    """Return what was measured of a network, with the means over the clips."""
    network = _read(name)
    for case, clips in network["cases"].items():
        methods = [key for key in next(iter(clips.values())) if key != "frames"]
        network["cases"][case] = {
            "clips": clips,
            "mean": {method: _mean(clips, method) for method in methods},
        }
    main = network["cases"][MAIN_CASE[name]]["mean"]
    titles = PLAIN | {"still": "no neighbors", "model": name, "ensemble": "ensemble"}
    return {
        **network,
        "task": TASKS[name],
        "main": main,
        "case": MAIN_CASE[name],
        "titles": {key: title for key, title in titles.items() if key in main},
        "baseline": next(key for key in reversed(PLAIN) if key in main),
    }


def _mean(clips: dict[str, Any], method: str) -> dict[str, float]:
    scores = [clip[method] for clip in clips.values()]
    return {key: statistics.fmean(s[key] for s in scores) for key in scores[0]}


def _read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def _score(scores: dict[str, float], channel: str = "y") -> str:
    return f"{scores[f'psnr_{channel}']:.2f} / {scores[f'ssim_{channel}']:.4f}"


def _gain(value: float) -> str:
    return f"{value:+.2f}"


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
