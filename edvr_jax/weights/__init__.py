"""Weights: those that ship in this folder, and every kind of weights file.

One rule decides what a name means, here and for ``--weights``: a name that ships is
that; hf://ORG/NAME is a file on the Hugging Face Hub (see hub.py); everything else is a
path. A folder is a training run (see runs.py). A path to a
.safetensors file with our metadata is the native format, any other file holds a
PyTorch network (see convert.py).
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, overload

import flax.linen as nn
import numpy as np

from edvr_jax.config import CascadeConfig, ModelConfig, NetworkConfig
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib
from edvr_jax.weights import hub, native, runs, torch_files

__all__ = [
    "Metadata",
    "available_weights",
    "combine_stages",
    "fingerprint",
    "load_weights",
    "read_metadata",
    "save_weights",
]

_SUFFIX = ".safetensors"

# The names of networks that ship.
Shipped = Literal["edvr_s_deblur", "edvr_s_deblur_stage2", "edvr_s_x2_web", "edvr_s_x4"]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a weights file says about itself.

    Attributes:
        config: The network.
        layout: "native", or the PyTorch layout: "basicsr", "official", "mmagic".
        origin: Who trained the weights, on what; "" if the file does not say.
        license: Terms of the weights and their data; "" if the file does not say.
        model: Name of the module of your own that they belong to; "" if they belong
            to the network of ``config``.
    """

    config: NetworkConfig
    layout: Literal["native", "basicsr", "official", "mmagic"]
    origin: str = ""
    license: str = ""
    model: str = ""


def available_weights() -> tuple[str, ...]:
    """Return the names of the weights that ship with the package."""
    files = resources.files(__name__).iterdir()
    return tuple(
        sorted(file.name.removesuffix(_SUFFIX) for file in files if _is_weights(file))
    )


def _is_weights(file: Any) -> bool:
    return file.name.endswith(_SUFFIX) and not file.name.startswith(".")


@overload
def load_weights(
    name_or_path: Shipped, *, model: nn.Module | None = None
) -> tuple[ModelConfig, dict[str, Any]]: ...


@overload
def load_weights(
    name_or_path: str | os.PathLike[str], *, model: nn.Module | None = None
) -> tuple[NetworkConfig, dict[str, Any]]: ...


def load_weights(
    name_or_path: str | os.PathLike[str], *, model: nn.Module | None = None
) -> tuple[NetworkConfig, dict[str, Any]]:
    """Load weights that ship, or any weights file.

    Args:
        name_or_path: A name of :func:`available_weights`; a native .safetensors
            file; a PyTorch network (.safetensors, or .pth with the [torch] extra),
            whose configuration is found from its shapes; such a file on the Hugging
            Face Hub, ``hf://ORG/NAME[@REVISION][/FILE]``, with the [hub] extra; or the
            folder of a training run, ``RUN`` (the average of its newest checkpoint),
            ``RUN@best``, ``RUN@STEP``.
        model: The module of your own that the weights belong to; None if they belong
            to the network of their configuration.

    Returns:
        The configuration and the parameters, nested, float32 NumPy arrays. For a
        cascade these are a CascadeConfig and ``{"stage1": ..., "stage2": ...}``:
        ``config.stage1`` with ``params["stage1"]`` is a network, too. In types, a name
        that ships has a ModelConfig; anything else a NetworkConfig, either of the two.

    Raises:
        InputError: if nothing has that name, or the file is damaged or does not fit,
            or belongs to a module of your own and none is given, or the Hub cannot be
            reached and there is no copy in its cache.
    """
    stored = read_stored(name_or_path)
    return stored.config, stored.fit(model, source=os.fspath(name_or_path))


def read_stored(name_or_path: str | os.PathLike[str]) -> native.Stored:
    """Read weights without checking that they are those of their configuration.

    Args:
        name_or_path: As in :func:`load_weights`.

    Raises:
        InputError: if nothing has that name, or the file is damaged.
    """
    run = find_run(name_or_path)
    if run is not None:
        return runs.read_stored(*run)
    with _find(name_or_path) as path:
        if native.is_native(path):
            return native.read(path)
        config, params = torch_files.from_torch(path)
        return native.Stored(config, params_lib.flatten(params))


def read_metadata(name_or_path: str | os.PathLike[str]) -> Metadata:
    """Return what weights say about themselves.

    Args:
        name_or_path: As in :func:`load_weights`.

    Returns:
        Configuration, layout, origin, license.

    Raises:
        InputError: if nothing has that name, a run has no such checkpoint, or the file
            is damaged or does not fit.
    """
    run = find_run(name_or_path)
    if run is not None:
        config, origin, model = runs.describe(*run)
        return Metadata(config, "native", origin, runs.LICENSE, model)
    with _find(name_or_path) as path:
        if not native.is_native(path):
            layout, config, _ = torch_files.read_torch(path)
            return Metadata(config, layout)
        texts = native.read_metadata(path)
        return Metadata(
            native.read_config(texts, str(path)),
            "native",
            texts.get("origin", ""),
            texts.get("license", ""),
            texts.get("model", ""),
        )


def find_run(name_or_path: str | os.PathLike[str]) -> tuple[Path, str | None] | None:
    """Return the folder of a run and which checkpoint; None for other weights.

    Args:
        name_or_path: As in :func:`load_weights`. A name that ships is that, also where
            a folder has the same name; ``./NAME`` is the folder.
    """
    name = os.fspath(name_or_path)
    is_file = name in available_weights() or hub.is_hub(name)
    return None if is_file else runs.split(name)


@contextlib.contextmanager
def _find(name_or_path: str | os.PathLike[str]) -> Iterator[Path]:
    name = os.fspath(name_or_path)
    if name in available_weights():
        file = resources.files(__name__) / f"{name}{_SUFFIX}"
        with resources.as_file(file) as path:
            yield path
        return
    if hub.is_hub(name):
        yield hub.download(name)
        return
    if not Path(name).exists():
        names = ", ".join(available_weights()) or "none"
        raise InputError(f"{name}: no such weights file; weights that ship: {names}")
    yield Path(name)


def save_weights(
    path: str | os.PathLike[str],
    config: NetworkConfig,
    params: Mapping[str, Any],
    *,
    origin: str,
    license: str,
    dtype: Literal["float32", "float16"] = "float32",
    model: nn.Module | None = None,
) -> None:
    """Write a native weights file, whole or not at all.

    Args:
        path: File to write, .safetensors.
        config: The network, or a cascade.
        params: Its parameters, nested.
        origin: Who trained them, on what data, with which configuration.
        license: Terms of the weights and of the data they come from.
        dtype: Type to store; float16 halves the file and rounds the parameters to
            11 bits. They load as float32 either way.
        model: The module of your own that they belong to, if it is not
            ``create_model(config)``. The file stores its name, and is refused where
            the module is not given.

    Raises:
        InputError: if the parameters do not fit the network or are not finite, or the
            file cannot be written.
    """
    native.write(
        Path(path),
        config,
        params,
        origin=origin,
        license=license,
        dtype=dtype,
        model=model,
    )


def fingerprint(params: Mapping[str, Any]) -> str:
    """Return the SHA-256 of parameters, whatever file they come from."""
    digest = hashlib.sha256()
    for name, value in sorted(params_lib.flatten(params).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def combine_stages(
    stage1: tuple[NetworkConfig, Mapping[str, Any]],
    stage2: tuple[NetworkConfig, Mapping[str, Any]],
) -> tuple[CascadeConfig, dict[str, Any]]:
    """Make a cascade of two networks, each as load_weights returns it.

    Args:
        stage1: Configuration and parameters of the first network.
        stage2: Those of the second; it must keep the size.

    Returns:
        Configuration and parameters of the cascade.

    Raises:
        InputError: if the networks do not fit together, or one is a cascade itself.
    """
    (config1, params1), (config2, params2) = stage1, stage2
    if not (isinstance(config1, ModelConfig) and isinstance(config2, ModelConfig)):
        raise InputError(
            "a stage is one network, not a cascade; take config.stage1 with "
            "params['stage1'], or config.stage2 with params['stage2']"
        )
    config = CascadeConfig(stage1=config1, stage2=config2)
    return config, {"stage1": dict(params1), "stage2": dict(params2)}
