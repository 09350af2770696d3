"""Networks as one file that runs without their code: artifacts, and ONNX.

An artifact is a zip file: for each network the two halves of a stream as StableHLO
(``jax.export``) for frames of any size and for one or more of CPU, CUDA and TPU, its
parameters (safetensors), and ``manifest.json`` with the configurations, the platforms
and the versions that made it. The same network and versions give the same bytes. Its
programs are executed as they are: load only files that you trust.

An ONNX file is for programs other than this one.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn

from edvr_jax import files
from edvr_jax.config import ModelConfig, NetworkConfig, from_dict
from edvr_jax.errors import InputError, first_line, needs_extra
from edvr_jax.models import own
from edvr_jax.models import params as params_lib
from edvr_jax.ops import conv
from edvr_jax.restore import compiled as network_lib
from edvr_jax.restore.compiled import CompiledNetwork

PLATFORMS = ("cpu", "cuda", "tpu")
ONNX_SUFFIX = ".onnx"
_FORMAT = 1
_MANIFEST = "manifest.json"


def versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    return {name: metadata.version(name) for name in ("edvr_jax", "jax", "jaxlib")}


def save(
    path: str | Path,
    config: NetworkConfig,
    params: Any,
    *,
    platforms: Sequence[str] = PLATFORMS,
    model: nn.Module | None = None,
) -> None:
    """Write an artifact, whole or not at all.

    Args:
        path: The file.
        config: Architecture of the network, or of the two of a cascade.
        params: Its parameters.
        platforms: Platforms that it is to run on, one or more of ``PLATFORMS``.
        model: The module to export if it is not ``create_model(config)``; running the
            artifact does not need its code.

    Raises:
        InputError: if the parameters do not fit the network, the module cannot be
            traced for frames of any size or lowered for a platform, or the file cannot
            be written.
    """
    flat = params_lib.flatten(params)
    params_lib.check_shapes(flat, params_lib.shapes(config, model), source="params")
    stages = network_lib.split_stages(config, params, model)
    manifest = {
        "format": _FORMAT,
        "configs": [dataclasses.asdict(stage_config) for stage_config, _, _ in stages],
        "platforms": list(platforms),
        "versions": versions(),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, _MANIFEST, json.dumps(manifest, indent=2).encode())
        for index, (stage_config, stage_params, module) in enumerate(stages):
            flat = params_lib.flatten(jax.device_get(stage_params))
            encode, reconstruct = _export(stage_config, flat, module, platforms)
            _add(archive, f"{index}/encode.bin", encode)
            _add(archive, f"{index}/reconstruct.bin", reconstruct)
            _add(
                archive,
                f"{index}/params.safetensors",
                safetensors.numpy.save(
                    {name: np.asarray(x, np.float32) for name, x in flat.items()}
                ),
            )
    files.write(Path(path), buffer.getvalue())


def save_onnx(path: str | Path, config: NetworkConfig, params: Any) -> None:
    """Write a network as an ONNX file, whole or not at all.

    Its input ``frames`` is RGB in [0, 1], float32, [N, T*C, H, W], one frame after the
    other; H and W are multiples of ``config.size_multiple``. Its output ``restored`` is
    not clipped, [N, out_channels, s*H, s*W]. N, H and W are open.

    Args:
        path: The file.
        config: Architecture of the network, or of the two of a cascade, for float32.
        params: Its parameters.

    Raises:
        InputError: if the package onnx is missing, the network computes in bfloat16,
            the parameters do not fit the configuration, or the file cannot be written.
    """
    if config.with_dtype("float32") != config:
        raise InputError(
            f"{path}: an ONNX file computes in float32, not in bfloat16; leave out "
            "--precision, or use config.with_dtype('float32')"
        )
    params_lib.check_shapes(
        params_lib.flatten(params), params_lib.shapes(config), source="params"
    )
    with needs_extra("onnx", f"{path}: ONNX files need the package onnx"):
        from edvr_jax.models import onnx_network

    files.write(Path(path), onnx_network.build(config, params).SerializeToString())


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # A ZipInfo has a fixed date, where a name alone would get that of today.
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def _export(
    config: ModelConfig,
    flat: Mapping[str, Any],
    model: nn.Module,
    platforms: Sequence[str],
) -> tuple[bytes, bytes]:
    """Serialize both halves for frames [1, m*h, m*w, C] of any h and w."""
    params = params_lib.unflatten(
        {
            name: jax.ShapeDtypeStruct(np.shape(value), jnp.float32)
            for name, value in flat.items()
        }
    )
    multiple = config.size_multiple
    shape = jax.export.symbolic_shape(
        f"1, {multiple}*h, {multiple}*w, {config.in_channels}"
    )
    frame = jax.ShapeDtypeStruct(shape, jnp.float32)
    with _no_paths(), _explain_own(config, model):
        encode = _export_one(network_lib.encode, model, platforms)(params, frame)
        (pyramid,) = jax.tree.unflatten(encode.out_tree, encode.out_avals)
        pyramid = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in pyramid)
        windows = ((pyramid,) * config.num_frames,)
        export = _export_one(network_lib.reconstruct, model, platforms)
        reconstruct = export(params, windows, frame)
    return bytes(encode.serialize()), bytes(reconstruct.serialize())


def _export_one(half: Any, model: nn.Module, platforms: Sequence[str]) -> Any:
    program = jax.jit(functools.partial(half, model))
    # XLA's own mark for a layout, of ops/patch_gather.py.
    mark = jax.export.DisabledSafetyCheck.custom_call("LayoutConstraint")
    return jax.export.export(program, platforms=platforms, disabled_checks=[mark])


@contextlib.contextmanager
def _explain_own(config: ModelConfig, model: nn.Module) -> Iterator[None]:
    """Explain in one line why a module of the user's own cannot be exported."""
    try:
        yield
    except Exception as error:  # whatever its code raises
        if not own.is_own(config, model):
            raise
        raise InputError(
            f"model {own.describe(model)} cannot be exported for frames of any size: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


@contextlib.contextmanager
def _no_paths() -> Iterator[None]:
    """Keep the file names and lines of this machine out of programs."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def load(path: str | Path) -> tuple[list[CompiledNetwork], str]:
    """Load an artifact for :class:`edvr_jax.restore.restorer.Restorer`.

    Args:
        path: A file of :func:`save`.

    Returns:
        Its networks, and the SHA-256 of the file.

    Raises:
        InputError: if it is none, or damaged, or not one for this version or this
            platform.
    """
    path = Path(path)
    if path.suffix.lower() == ONNX_SUFFIX:
        raise InputError(
            f"{path}: ONNX files are for other programs; restore by an artifact, which "
            "edvr export writes under any other suffix"
        )
    platform = jax.export.default_export_platform()
    with files.report_unreadable(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _load_networks(file, path, platform), digest


def _load_networks(file: IO[bytes], path: Path, platform: str) -> list[CompiledNetwork]:
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = json.loads(archive.read(_MANIFEST))
            if manifest["format"] != _FORMAT:
                reason = f"format {manifest['format']} instead of {_FORMAT}"
                raise _cannot_run(path, manifest, reason)
            if platform not in manifest["platforms"]:
                raise InputError(
                    f"{path}: exported for {', '.join(manifest['platforms'])}, but "
                    f"this machine runs {platform}; export it for that"
                )
            if not manifest["configs"]:
                raise ValueError("no networks")
            return [
                _load_network(archive, index, path, manifest)
                for index in range(len(manifest["configs"]))
            ]
    except (InputError, MemoryError):
        raise
    # A damaged file can fail in any way, in four libraries.
    except Exception as error:
        raise InputError(
            f"{path}: not an artifact of edvr export, or damaged; export it again"
        ) from error


def _cannot_run(path: Path, manifest: Mapping[str, Any], reason: str) -> InputError:
    """Make the error for an artifact of other versions."""
    made, here = (
        ", ".join(f"{name} {version}" for name, version in found.items())
        for found in (manifest["versions"], versions())
    )
    return InputError(
        f"{path}: {here} cannot run it ({reason}); it was made by {made}; export it "
        "again"
    )


def _load_network(
    archive: zipfile.ZipFile, index: int, path: Path, manifest: Mapping[str, Any]
) -> CompiledNetwork:
    try:
        config = from_dict(ModelConfig, manifest["configs"][index])
    except InputError as error:
        if manifest["versions"] == versions():
            raise ValueError(str(error)) from None
        raise _cannot_run(path, manifest, str(error)) from None
    encode, reconstruct = (
        _load_program(archive.read(f"{index}/{name}.bin"), path, manifest)
        for name in ("encode", "reconstruct")
    )
    flat = safetensors.numpy.load(archive.read(f"{index}/params.safetensors"))
    # What the program takes, whatever this version's network would.
    (expected, _), _ = jax.tree.unflatten(encode.in_tree, encode.in_avals)
    params_lib.check_shapes(
        flat,
        {name: aval.shape for name, aval in params_lib.flatten(expected).items()},
        source=str(path),
    )
    jit = functools.partial(jax.jit, compiler_options=conv.compiler_options())
    return CompiledNetwork(
        config,
        params_lib.unflatten(flat),
        functools.partial(_encode_each, jit(encode.call)),
        functools.partial(_reconstruct_each, jit(reconstruct.call)),
    )


def _load_program(
    data: bytes, path: Path, manifest: Mapping[str, Any]
) -> jax.export.Exported:
    try:
        program = jax.export.deserialize(bytearray(data))
        # JAX would read the StableHLO only when the first frame is restored.
        program.mlir_module()
    except Exception as error:
        if manifest["versions"] == versions():
            raise
        raise _cannot_run(path, manifest, first_line(error)) from None
    return program


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
