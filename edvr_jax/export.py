"""Artefacts of jax.export: a network as one file that runs without its code.

An artefact is a zip file: for each network the two halves of a stream as StableHLO
(``jax.export``) for frames of any size and for CPU, CUDA and TPU, its parameters
(safetensors), and ``manifest.json`` with configurations and versions. Its programs are
executed as they are: load only files that you trust.
"""

import dataclasses
import functools
import io
import json
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn

from edvr_jax import files, weights
from edvr_jax.config import CascadeConfig, ModelConfig, from_dict
from edvr_jax.errors import InputError
from edvr_jax.models import create_model
from edvr_jax.models import params as params_lib
from edvr_jax.restore import network as network_lib
from edvr_jax.restore.network import Network, create_networks

PLATFORMS = ("cpu", "cuda", "tpu")
_FORMAT = 1
_MANIFEST = "manifest.json"


def versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    return {name: metadata.version(name) for name in ("edvr_jax", "jax", "jaxlib")}


def save(
    path: str | Path,
    config: ModelConfig | CascadeConfig,
    params: Any,
    *,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write an artefact, whole or not at all.

    Args:
        path: The file.
        config: Architecture of the network, or of the two of a cascade.
        params: Its parameters.
        platforms: Where it shall run.

    Raises:
        InputError: if it cannot be written.
    """
    networks = create_networks(config, params)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        manifest = {
            "format": _FORMAT,
            "configs": [dataclasses.asdict(n.config) for n in networks],
            "platforms": list(platforms),
            "versions": versions(),
            "weights": weights.fingerprint(params),
        }
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        for index, network in enumerate(networks):
            encode, reconstruct = _export(network.config, platforms)
            archive.writestr(f"{index}/encode.bin", encode)
            archive.writestr(f"{index}/reconstruct.bin", reconstruct)
            flat = params_lib.flatten(jax.device_get(network.params))
            archive.writestr(
                f"{index}/params.safetensors",
                safetensors.numpy.save(
                    {name: np.asarray(value) for name, value in flat.items()}
                ),
            )
    files.write(Path(path), buffer.getvalue())


def _export(config: ModelConfig, platforms: Sequence[str]) -> tuple[bytes, bytes]:
    """Serialize both halves for frames [1, m*h, m*w, C] of any h and w."""
    model = create_model(config)
    params = params_lib.unflatten(
        {
            name: jax.ShapeDtypeStruct(shape, jnp.float32)
            for name, shape in params_lib.shapes(config).items()
        }
    )
    multiple = config.size_multiple
    shape = jax.export.symbolic_shape(
        f"1, {multiple}*h, {multiple}*w, {config.in_channels}"
    )
    frame = jax.ShapeDtypeStruct(shape, jnp.float32)
    encode = _export_one(network_lib.encode, model, platforms)(params, frame)
    (pyramid,) = jax.tree.unflatten(encode.out_tree, encode.out_avals)
    pyramid = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in pyramid)
    windows = ((pyramid,) * config.num_frames,)
    export = _export_one(network_lib.reconstruct, model, platforms)
    reconstruct = export(params, windows, frame)
    return bytes(encode.serialize()), bytes(reconstruct.serialize())


def _export_one(half: Any, model: nn.Module, platforms: Sequence[str]) -> Any:
    program = jax.jit(functools.partial(half, model))
    return jax.export.export(program, platforms=platforms)


def load(path: str | Path) -> tuple[list[Network], str]:
    """Load an artefact for :class:`edvr_jax.restore.stream.Restorer`.

    Args:
        path: A file of :func:`save`.

    Returns:
        Its networks, and the fingerprint of its weights.

    Raises:
        InputError: if it is none, or not one for this version or this platform.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(_MANIFEST))
            if manifest["format"] != _FORMAT:
                raise InputError(f"{path}: made by another version; export it again")
            platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
            if platform not in manifest["platforms"]:
                raise InputError(
                    f"{path}: exported for {', '.join(manifest['platforms'])}, but "
                    f"this machine runs {platform}; export it for that"
                )
            networks = [
                _load_network(archive, index, config)
                for index, config in enumerate(manifest["configs"])
            ]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{path}: not an artefact of edvr export ({error})") from None
    return networks, manifest["weights"]


def _load_network(
    archive: zipfile.ZipFile, index: int, config: dict[str, Any]
) -> Network:
    try:
        encode, reconstruct = (
            jax.jit(
                jax.export.deserialize(
                    bytearray(archive.read(f"{index}/{name}.bin"))
                ).call
            )
            for name in ("encode", "reconstruct")
        )
    except ValueError as error:
        text = str(error).splitlines()[0]
        raise InputError(
            f"{archive.filename}: JAX {jax.__version__} cannot run it ({text}); export "
            "it again"
        ) from None
    flat = safetensors.numpy.load(archive.read(f"{index}/params.safetensors"))
    return Network(
        from_dict(ModelConfig, config),
        params_lib.unflatten(flat),
        functools.partial(_encode_each, encode),
        functools.partial(_reconstruct_each, reconstruct),
    )


def _encode_each(encode: Any, params: Any, frames: jax.Array) -> Any:
    """Call a program for one frame with each of several."""
    return tuple(encode(params, frames[k : k + 1])[0] for k in range(frames.shape[0]))


def _reconstruct_each(
    reconstruct: Any, params: Any, windows: Any, frames: jax.Array
) -> jax.Array:
    """Call a program for one window with each of several."""
    restored = [
        reconstruct(params, (window,), frames[k : k + 1])
        for k, window in enumerate(windows)
    ]
    return restored[0] if len(restored) == 1 else jnp.concatenate(restored)
