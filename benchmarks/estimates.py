"""The cycles that XLA's TPU compiler estimates, read from its text of a program."""

import collections
import re
from typing import Any

# Roles of the computations that an instruction of XLA's text calls.
_CALLS = ("body", "condition", "calls", "to_apply", "true_computation")
_MODULE = re.compile(
    r"predeblur|feature_extraction_\d+|pcd_align|dcn_pack_l\d|cas_dcnpack|fusion|"
    r"reconstruction_\d+|upconv\d|conv_hr|conv_last|conv_first"
)


def estimate_cycles(text: str) -> dict[str, Any]:
    """Add the compiler's estimates up, by part of the network.

    Args:
        text: The compiled program.

    Returns:
        ``cycles`` of the whole program, ``cycles_by_part`` by the names of modules,
        largest first.
    """
    times = _repetitions(text)
    parts: dict[str, int] = collections.defaultdict(int)
    for name, line in _instructions(text):
        found = re.search(r'"estimated_cycles":"(\d+)"', line)
        if found:
            parts[_part(line)] += int(found[1]) * times[name]
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return {"cycles": sum(parts.values()), "cycles_by_part": dict(ordered)}


def _instructions(text: str):
    """Yield each instruction with the name of its computation."""
    name = ""
    for line in text.splitlines():
        header = re.match(r"(?:ENTRY )?%([\w.\-]+) .*\{$", line)
        if header:
            name = header[1]
        elif " = " in line:
            yield name, line


def _repetitions(text: str) -> dict[str, int]:
    """Return how often each computation runs; one branch of a conditional counts."""
    calls, limits = collections.defaultdict(list), collections.defaultdict(list)
    for name, line in _instructions(text):
        limits[name] += map(int, re.findall(r"s32\[\][^=]* constant\((\d+)\)", line))
        found = re.findall(r"\b(\w+)=%([\w.\-]+)", line)
        called = {role: other for role, other in found if role in _CALLS}
        calls[name].append(called)
    entry = re.search(r"^ENTRY %([\w.\-]+)", text, re.MULTILINE)
    times: dict[str, int] = collections.defaultdict(int)

    def visit(name: str, count: int) -> None:
        times[name] += count
        for called in calls[name]:
            # A loop of lax.map compares its counter with a constant.
            trips = max(limits[called.get("condition", "")], default=1)
            for other in called.values():
                visit(other, count * trips)

    if entry:
        visit(entry[1], 1)
    return times


def _part(line: str) -> str:
    """Return the pass and the module that an instruction belongs to."""
    found = re.search(r'op_name="([^"]*)"', line)
    path = found[1].split("/") if found else []
    modules = [re.sub(r"_\d+$", "", name) for name in path if _MODULE.fullmatch(name)]
    direction = "gradients of " if any("transpose(" in name for name in path) else ""
    return direction + ("/".join(modules[:2]) or "rest")
