"""Start a network from the weights of others: whole, in part, or growing deeper.

What is taken is named by the user, and every parameter is accounted for: one that is
missing, left over or of another shape is an error unless the configuration allows it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from edvr_jax import weights
from edvr_jax.config import Config, InitConfig
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib
from edvr_jax.train import optim

Flat = dict[str, Any]

# A residual block of one of the two stacks whose depth may differ, by its index.
_BLOCK = re.compile(r"^((?:.*/)?(?:feature_extraction|reconstruction)_)(\d+)(/.*)$")


def init_from_weights(
    params: Any, config: Config, sources: Sequence[str]
) -> tuple[Any, list[str]]:
    """Replace fresh parameters by those of weights.

    Args:
        params: Fresh parameters of the network.
        config: The experiment; ``config.init`` says what may differ.
        sources: ``WEIGHTS`` for the whole network, or ``SUBTREE=WEIGHTS`` for the
            parameters under a prefix: those that the weights have under the same
            prefix, else the whole of another network (``stage1=...``). WEIGHTS is a
            name that ships, or a file.

    Returns:
        The parameters, and lines that say where they come from.

    Raises:
        InputError: if the weights do not fit; it names the parameters.
    """
    fresh = params_lib.flatten(params)
    flat, report, filled = dict(fresh), [], set()
    for entry in sources:
        subtree, source = parse_source(entry)
        wanted = {k: v for k, v in fresh.items() if _is_under(k, subtree)}
        if not wanted:
            raise InputError(
                f"--init {entry}: the network has no parameters under {subtree}; it "
                f"has {', '.join(sorted({key.split('/')[0] for key in fresh}))}"
            )
        found = _read(source, subtree, entry)
        taken, num_copied = _fit(found, wanted, config.init, entry)
        flat |= taken
        filled |= taken.keys()
        copied = f" ({num_copied} of them copied into new blocks)" if num_copied else ""
        report.append(f"{len(taken)} parameters from {entry}{copied}")
    left = [key for key in fresh if key not in filled]
    if sources and left:
        report.append(f"{len(left)} parameters start fresh: {_groups(left)}")
    return params_lib.unflatten(
        {key: jnp.asarray(value) for key, value in flat.items()}
    ), report


def parse_source(entry: str) -> tuple[str, str]:
    """Split ``SUBTREE=WEIGHTS``; the subtree of ``WEIGHTS`` alone is empty.

    A path that exists is one, whatever is in its name.
    """
    if "=" not in entry or Path(entry).exists():
        return "", entry
    subtree, _, source = entry.partition("=")
    return subtree, source


def check_prefixes(paths: Collection[str], config: Config) -> None:
    """Check that what a configuration names is in the network.

    Raises:
        InputError: if ``optim.frozen`` or ``init.fresh`` names nothing.
    """
    for field, prefixes in (
        ("optim.frozen", config.optim.frozen),
        ("init.fresh", config.init.fresh),
    ):
        for prefix in prefixes:
            if not any(optim.has_prefix(path, (prefix,)) for path in paths):
                raise InputError(
                    f"{field}: the network has no parameters under {prefix}; it has "
                    f"{', '.join(sorted({path.split('/')[0] for path in paths}))}"
                )


def _is_under(path: str, subtree: str) -> bool:
    return not subtree or optim.has_prefix(path, (subtree,))


def _read(source: str, subtree: str, entry: str) -> Flat:
    """Read weights, under the names of the network that takes them."""
    _, params = weights.load_weights(source)
    found = params_lib.flatten(params)
    if not subtree:
        return found
    same = {key: value for key, value in found.items() if _is_under(key, subtree)}
    if same:
        return same
    if not subtree.startswith("stage"):
        raise InputError(f"--init {entry}: the weights have nothing under {subtree}")
    return {f"{subtree}/{key}": value for key, value in found.items()}


def _fit(
    found: Flat, wanted: Mapping[str, Any], init: InitConfig, entry: str
) -> tuple[Flat, int]:
    """Choose what the network takes of the weights, and count what is copied."""
    allowed = {k: v for k, v in found.items() if not optim.has_prefix(k, init.fresh)}
    expected = {k: v for k, v in wanted.items() if not optim.has_prefix(k, init.fresh)}
    missing = [key for key in expected if key not in allowed]
    copies: Flat = {}
    if init.grow_depth:
        copies = {key: allowed[s] for key in missing if (s := _template(key, allowed))}
    _check_width(allowed, expected, entry)
    params_lib.check_shapes(
        {key: np.shape(value) for key, value in (allowed | copies).items()},
        {key: np.shape(value) for key, value in expected.items()},
        source=f"--init {entry}",
    )
    return {key: (allowed | copies)[key] for key in expected}, len(copies)


def _template(key: str, found: Mapping[str, Any]) -> str | None:
    """Name the parameter whose copy fills a block that the weights do not have."""
    match = _BLOCK.match(key)
    if match is None:
        return None
    stack, index, rest = match.groups()
    depth = sum(
        1 for other in found if other.startswith(stack) and other.endswith(rest)
    )
    return f"{stack}{int(index) % depth}{rest}" if depth else None


def _check_width(found: Flat, expected: Mapping[str, Any], entry: str) -> None:
    """Say plainly that weights of another width are of no use."""
    for key, value in expected.items():
        if key.endswith("conv_l2_1/kernel") and key in found:
            here, there = np.shape(value)[-1], np.shape(found[key])[-1]
            if here != there:
                raise InputError(
                    f"--init {entry}: the weights have {there} features, the network "
                    f"{here}; width cannot grow, only depth: train a shallow network "
                    f"of {here} features first"
                )


def _groups(keys: Sequence[str]) -> str:
    """Name the modules that parameters belong to."""
    return ", ".join(
        dict.fromkeys(_BLOCK.sub(r"\1*", key).split("/")[0] for key in keys)
    )
