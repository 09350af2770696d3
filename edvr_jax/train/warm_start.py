"""The state at step 0: fresh, or with parameters of other weights.

Parameters can be taken from a whole network, from a part of one, or from a shallower
one. Every parameter is accounted for: one that is missing, left over or of another
shape is an error, unless the configuration allows it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from edvr_jax import weights
from edvr_jax.config import Config, InitConfig
from edvr_jax.errors import InputError
from edvr_jax.models import own
from edvr_jax.models import params as params_lib
from edvr_jax.train import identity, optim, parallel
from edvr_jax.train.reporter import Log
from edvr_jax.train.state import TrainState, create_train_state, initial_state

Flat = dict[str, Any]

# A residual block of one of the two stacks whose depth may differ, by its index.
_BLOCK = re.compile(r"^((?:.*/)?(?:feature_extraction|reconstruction)_)(\d+)(/.*)$")


def start_state(
    config: Config,
    sources: Sequence[str],
    *,
    model: nn.Module | None = None,
    log: Log,
) -> TrainState:
    """Create the state at step 0.

    Args:
        config: The experiment.
        sources: Weights to start from, as for :func:`init_from_weights`; none are
            random parameters.
        model: A module of your own; None is ``create_model(config.model)``.
        log: Called with each line for the user.

    Returns:
        The state.

    Raises:
        InputError: if the weights do not fit, a prefix of ``optim.frozen`` or ``init``
            matches no parameter, random parameters would be frozen, or
            ``init.identity`` meets a module of your own.
    """
    state = create_train_state(config, model)
    flat = params_lib.flatten(state.params)
    check_prefixes(flat, config)
    if not sources:
        _check_without_weights(config, log)
        if not config.init.identity:
            return state
    if config.init.identity:
        if own.is_own(config.model, model):
            raise InputError(
                "init.identity knows EDVR's parts only, not your own module"
            )
        flat = {k: identity.start(k, x, config.model) for k, x in flat.items()}
    params, report = init_from_weights(params_lib.unflatten(flat), config, sources)
    for line in report:
        log(line)
    optimizer = optim.create_optimizer(config.optim)
    return parallel.replicate(initial_state(params, optimizer))


def init_from_weights(
    params: Any, config: Config, sources: Sequence[str]
) -> tuple[Any, list[str]]:
    """Replace fresh parameters by those of weights.

    Args:
        params: Fresh parameters of the network, nested.
        config: The experiment; ``config.init`` names what may differ.
        sources: ``WEIGHTS`` for the whole network, or ``SUBTREE=WEIGHTS`` for the
            parameters under a prefix: those that the weights have under the same
            prefix, else the whole of another network (``stage1=...``). WEIGHTS is a
            name that ships, or a file.

    Returns:
        The parameters, and lines for the user that name their origin.

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
                f"has {_groups(fresh)}"
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

    An existing path is never split, even if its name has an equals sign.
    """
    if "=" not in entry or Path(entry).exists():
        return "", entry
    subtree, _, source = entry.partition("=")
    return subtree, source


def check_prefixes(paths: Collection[str], config: Config) -> None:
    """Check that every prefix that a configuration names matches a parameter.

    Raises:
        InputError: if one of ``optim.frozen`` or ``init.fresh`` does not.
    """
    for field, prefixes in (
        ("optim.frozen", config.optim.frozen),
        ("init.fresh", config.init.fresh),
    ):
        for prefix in prefixes:
            if not any(_is_under(path, prefix) for path in paths):
                raise InputError(
                    f"{field}: the network has no parameters under {prefix}; it has "
                    f"{_groups(paths)}"
                )


def _check_without_weights(config: Config, log: Log) -> None:
    """Refuse, or note, settings that make no sense for random parameters."""
    if config.optim.frozen:
        raise InputError(
            f"optim.frozen ({', '.join(config.optim.frozen)}) would freeze random "
            "parameters: give weights by --init, or run the whole --chain"
        )
    if config.optim.tsa_warmup_steps:
        log(
            f"note: {config.optim.tsa_warmup_steps} steps of TSA alone on random "
            "features; --init WEIGHTS or --chain start from trained ones"
        )


def _is_under(path: str, subtree: str) -> bool:
    return not subtree or optim.has_prefix(path, (subtree,))


def _read(source: str, subtree: str, entry: str) -> Flat:
    """Read weights, under the names of the network that takes them."""
    stored = weights.read_stored(source)
    found = stored.flat
    if not stored.model:  # a whole network; others are compared with the one trained
        stored.fit(None, source=source)
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
    """Choose the parameters that the network takes, and count those copied."""
    allowed = {k: v for k, v in found.items() if not optim.has_prefix(k, init.fresh)}
    expected = {k: v for k, v in wanted.items() if not optim.has_prefix(k, init.fresh)}
    missing = [key for key in expected if key not in allowed]
    copies: Flat = {}
    if init.grow_depth:
        copies = {key: allowed[s] for key in missing if (s := _template(key, allowed))}
    _check_width(allowed, expected, entry)
    params_lib.check_shapes(
        allowed | copies,
        {key: np.shape(value) for key, value in expected.items()},
        source=f"--init {entry}",
    )
    return {key: (allowed | copies)[key] for key in expected}, len(copies)


def _template(key: str, found: Mapping[str, Any]) -> str | None:
    """Return the parameter whose copy fills a block missing in the weights."""
    match = _BLOCK.match(key)
    if match is None:
        return None
    stack, index, rest = match.groups()
    depth = sum(key.startswith(stack) and key.endswith(rest) for key in found)
    return f"{stack}{int(index) % depth}{rest}" if depth else None


def _check_width(found: Flat, expected: Mapping[str, Any], entry: str) -> None:
    """Refuse weights of another width in one line, instead of listing every shape."""
    for key, value in expected.items():
        if key.endswith("conv_l2_1/kernel") and key in found:
            here, there = np.shape(value)[-1], np.shape(found[key])[-1]
            if here != there:
                raise InputError(
                    f"--init {entry}: the weights have {there} features, the network "
                    f"{here}; width cannot grow, only depth: train a shallow network "
                    f"of {here} features first"
                )


def _groups(keys: Iterable[str]) -> str:
    """Return the names of the modules that parameters belong to."""
    return ", ".join(
        dict.fromkeys(_BLOCK.sub(r"\1*", key).split("/")[0] for key in keys)
    )
