"""The native weights file: .safetensors with the configuration inside.

Parameters are stored under their flat names (``pcd_align/cas_dcnpack/kernel``; a
cascade's begin with ``stage1/`` or ``stage2/``). The metadata, all text, says what
they are: ``format`` (always edvr_jax), ``format_version``, ``config_type``
(ModelConfig or CascadeConfig), ``config`` (JSON), ``origin``, ``license``, and
``model`` if the weights belong to a module of the user's own, its name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import numpy as np
import safetensors.numpy

from edvr_jax import config as config_lib
from edvr_jax import files
from edvr_jax.config import CascadeConfig, ModelConfig, NetworkConfig
from edvr_jax.errors import InputError
from edvr_jax.models import own
from edvr_jax.models import params as params_lib
from edvr_jax.weights import torch_files

FORMAT_VERSION = "1"
CONFIG_TYPES = {"ModelConfig": ModelConfig, "CascadeConfig": CascadeConfig}


def is_native(path: Path) -> bool:
    """Tell whether a file has the native format; it must be readable."""
    if path.suffix != ".safetensors":
        return False
    with torch_files.open_safetensors(path) as file:
        return (file.metadata() or {}).get("format") == torch_files.NATIVE_FORMAT


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a native file.

    Raises:
        InputError: if the file is damaged or of a later version.
    """
    with torch_files.open_safetensors(path) as file:
        metadata = dict(file.metadata() or {})
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: weights format version {version}, this edvr_jax reads "
            f"{FORMAT_VERSION}; update it"
        )
    return metadata


def read_config(metadata: Mapping[str, str], source: str) -> NetworkConfig:
    """Return the configuration in a native file's metadata."""
    try:
        cls = CONFIG_TYPES[metadata["config_type"]]
        return config_lib.from_dict(cls, json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: its configuration is damaged: {error}") from None


class Stored(NamedTuple):
    """Weights as they are stored, whatever network they belong to.

    Attributes:
        config: The configuration.
        flat: The parameters under flat names, float32 NumPy arrays.
        model: Name of the user's own module that they belong to; "" is none.
        origin: Where they come from.
    """

    config: NetworkConfig
    flat: dict[str, Any]
    model: str = ""
    origin: str = ""

    def fit(self, model: nn.Module | None, *, source: str) -> dict[str, Any]:
        """Return the parameters of a network, nested.

        Args:
            model: The module if it is not that of the configuration.
            source: Where the weights are stored, for the message.

        Raises:
            InputError: if they belong to a module of the user's own and none is
                given, or are not the parameters of the network.
        """
        if self.model and model is None:
            raise InputError(
                f"{source}: these weights belong to a module of your own, "
                f"{self.model}; pass it as model= (docs/own_parts.md)"
            )
        shapes = params_lib.shapes(self.config, model)
        params_lib.check_shapes(self.flat, shapes, source=source)
        return params_lib.unflatten(self.flat)


def read(path: Path) -> Stored:
    """Read a native file, without checking which parameters it has.

    Raises:
        InputError: if the file is damaged.
    """
    texts = read_metadata(path)
    config = read_config(texts, str(path))
    with torch_files.open_safetensors(path) as file:
        flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    flat = {key: np.asarray(value, np.float32) for key, value in flat.items()}
    return Stored(config, flat, texts.get("model", ""), texts.get("origin", ""))


def write(
    path: Path,
    config: NetworkConfig,
    params: Mapping[str, Any],
    *,
    origin: str,
    license: str,
    dtype: Literal["float32", "float16"],
    model: nn.Module | None = None,
) -> None:
    """Write a native file, see :func:`edvr_jax.weights.save_weights`."""
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: name the file .safetensors")
    flat = {key: np.asarray(v) for key, v in params_lib.flatten(params).items()}
    params_lib.check_shapes(flat, params_lib.shapes(config, model), source="params")
    with np.errstate(over="ignore"):
        stored = {
            key: np.ascontiguousarray(value, np.dtype(dtype))
            for key, value in flat.items()
        }
    for key, value in stored.items():
        if not np.isfinite(value).all():
            raise InputError(f"params: {key} is not finite as {dtype}; not written")
    metadata = {
        "format": torch_files.NATIVE_FORMAT,
        "format_version": FORMAT_VERSION,
        "config_type": type(config).__name__,
        "config": config_lib.to_json(config),
        "origin": origin,
        "license": license,
    }
    if model is not None and own.is_own(config, model):
        metadata["model"] = own.describe(model)
    files.write(path, safetensors.numpy.save(stored, metadata=metadata))
