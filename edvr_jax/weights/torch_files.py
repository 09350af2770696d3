"""Weights of PyTorch EDVR networks, read and written.

The names are in :mod:`edvr_jax.weights.torch_names`. Only this file touches torch,
and only for pickled files (.pth).
"""

import contextlib
import io
import logging
import os
import pickle
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import safetensors
import safetensors.numpy

from edvr_jax import files
from edvr_jax.config import CascadeConfig, ModelConfig, NetworkConfig
from edvr_jax.errors import InputError, first_line, list_some, needs_extra
from edvr_jax.models import params as params_lib
from edvr_jax.weights import torch_names
from edvr_jax.weights.torch_names import LAYOUTS, Layout

# What the metadata of our own files say, see weights/native.py.
NATIVE_FORMAT = "edvr_jax"

_log = logging.getLogger(__name__)

# Keys under which training programs save the parameters, the moving average first.
_WRAPPERS = (
    *("params_ema", "ema_state_dict", "params", "state_dict", "model_state_dict"),
    *("generator_ema", "model_ema", "ema", "generator", "net_g"),
    *("model", "net", "network", "module", "weights"),
)
# What wrappers put before the names of the parameters of a whole network (PyTorch's
# DataParallel and compile), and of one module among others (Lightning, mmagic).
_WHOLE_PREFIXES = ("module.", "_orig_mod.")
_PREFIXES = (
    *_WHOLE_PREFIXES,
    *("generator_ema.", "generator.", "model_ema.", "model.", "net_g.", "net."),
    "network.",
)


def from_torch(
    path: str | os.PathLike[str],
) -> tuple[ModelConfig, dict[str, Any]]:
    """Read the weights of a PyTorch EDVR network.

    The layout (official, BasicSR or mmagic) and the configuration are found from
    the names and shapes. Files of training code are unwrapped; where they hold a
    moving average of the weights, it is preferred.

    Args:
        path: A .safetensors file, read without torch, or a pickled file (.pth),
            which needs the [torch] extra and is loaded with weights_only=True.

    Returns:
        The configuration (center frame: the middle one; scale 1 with ``hr_in``) and
        the parameters, nested, float32 NumPy arrays.

    Raises:
        InputError: if the file is missing or damaged, or its parameters are not
            exactly those of an EDVR network; all differences are named.
    """
    _, config, params = read_torch(path)
    return config, params


def read_torch(
    path: str | os.PathLike[str],
) -> tuple[Layout, ModelConfig, dict[str, Any]]:
    """Read weights as :func:`from_torch`, and report their layout."""
    state = _unwrap(_read(Path(path)), str(path))
    layout, names = torch_names.find_layout(state, source=str(path))
    arrays = {names[key]: state[key] for key in names}
    config = _infer_config(arrays, str(path))
    entries = torch_names.mapping(config, layout)
    params_lib.check_shapes(
        state,
        {entry.torch_key: entry.torch_shape for entry in entries},
        source=f"{path} ({layout} names)",
    )
    flat = {entry.path: _to_ours(state[entry.torch_key]) for entry in entries}
    return layout, config, params_lib.unflatten(flat)


def _to_ours(value: np.ndarray) -> np.ndarray:
    value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return np.ascontiguousarray(value, dtype=np.float32)


def _unwrap(state: Any, source: str) -> dict[str, np.ndarray]:
    """Take the network's parameters out of what a training program saved."""
    skipped: list[str] = []
    while isinstance(state, Mapping):
        wrapper = next((w for w in _WRAPPERS if isinstance(state.get(w), Mapping)), "")
        if not wrapper:
            break
        skipped += [str(key) for key in state if key != wrapper]
        state = state[wrapper]
    if not isinstance(state, Mapping):
        state = {}
    tensors = {str(k): v for k, v in state.items() if isinstance(v, np.ndarray)}
    skipped += [str(key) for key in state if str(key) not in tensors]
    if not tensors:
        holds = f"; it holds {list_some(skipped)}" if skipped else ""
        remedy = "save the network's state_dict()"
        raise InputError(f"{source}: holds no table of parameters{holds}; {remedy}")
    # A wrapper may be in another, in any order.
    while prefix := next((p for p in _PREFIXES if _has_prefix(tensors, p)), ""):
        outside = [key for key in tensors if not key.startswith(prefix)]
        left_out = [key for key in outside if _may_be_left_out(key, prefix)]
        skipped += left_out
        tensors = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key not in left_out
        }
    if skipped:
        names = sorted({key.split(".")[0] for key in skipped})
        _log.warning("%s: left out %s", source, ", ".join(names))
    return tensors


def _has_prefix(tensors: Mapping[str, Any], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in tensors)


def _may_be_left_out(key: str, prefix: str) -> bool:
    """Report whether what a training program saved beside the network is no part of it.

    DataParallel and torch.compile wrap a whole network; others hold more modules.
    """
    if prefix in _WHOLE_PREFIXES:
        return False
    return not key.startswith(tuple(torch_names.first_names()))


def _infer_config(arrays: Mapping[str, np.ndarray], source: str) -> ModelConfig:
    """Find the configuration from parameters in PyTorch's shapes, under our names."""

    def dimension(axis, *names):
        for name in names:
            value = arrays.get(f"{name}/kernel")
            if value is not None and value.ndim == 4:
                return value.shape[axis]
        raise InputError(
            f"{source}: not a whole EDVR network, none of {', '.join(names)} is there"
        )

    def count(prefix):
        return len({key.split("/")[0] for key in arrays if key.startswith(prefix)})

    features = dimension(0, "conv_l2_1", "conv_l2_2", "conv_l3_1", "conv_l3_2")
    levels = ("cas_dcnpack", "dcn_pack_l1", "dcn_pack_l2", "dcn_pack_l3")
    offsets = dimension(0, *(f"pcd_align/{level}/conv_offset" for level in levels))
    fused = dimension(1, "fusion/feat_fusion", "fusion/spatial_attn1", "fusion")
    stems = ("conv_first", "conv_first_1", "predeblur/conv_first")
    half_stems = ("conv_first_2", "predeblur/stride_conv_hr1")
    hr_in = any(f"{name}/kernel" in arrays for name in half_stems)
    scale = 1
    if not hr_in and "upconv1/kernel" in arrays:
        is_nine = dimension(0, "upconv1") == 64 * 9
        scale = 4 if "upconv2/kernel" in arrays else 3 if is_nine else 2
    try:
        return ModelConfig(
            num_features=features,
            num_frames=fused // features,
            deformable_groups=offsets // 27,  # 3 x 3 taps: dy, dx, mask
            num_extract_blocks=count("feature_extraction_"),
            num_reconstruct_blocks=count("reconstruction_"),
            scale=scale,
            hr_in=hr_in,
            with_predeblur=any(key.startswith("predeblur/") for key in arrays),
            with_tsa=any(key.startswith("fusion/feat_fusion/") for key in arrays),
            in_channels=dimension(1, *stems),
            out_channels=dimension(0, "conv_last"),
        )
    except InputError as error:
        raise InputError(f"{source}: not an EDVR network: {error}") from None


def to_torch(
    config: NetworkConfig,
    params: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    layout: Layout = "basicsr",
) -> None:
    """Write weights for a PyTorch implementation of EDVR.

    Args:
        config: The network; a cascade is written stage by stage.
        params: Its parameters.
        path: File to write: .safetensors (plain names) or .pth (wrapped as that
            project's checkpoints are; needs the [torch] extra).
        layout: Whose names to use.

    Raises:
        InputError: if the parameters do not fit the configuration, the layout has
            no names for a part of the network, or the file cannot be written.

    Note:
        The center frame is a constructor argument there and not in the file. BasicSR
        dropped ``hr_in`` without PreDeblur, and all three know scale 4 only; such
        networks are written under the names that these parts have here.
    """
    if isinstance(config, CascadeConfig):
        raise InputError(
            "PyTorch files hold one network: write a cascade stage by stage, "
            "config.stage1 with params['stage1'], config.stage2 with params['stage2']"
        )
    if config.max_offset is not None or not config.with_alignment:
        raise InputError(
            "no PyTorch EDVR clamps offsets (max_offset) or goes without alignment "
            "(with_alignment=False): such weights stay in the native format"
        )
    if layout not in LAYOUTS:
        raise InputError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    flat = {key: np.asarray(v) for key, v in params_lib.flatten(params).items()}
    params_lib.check_shapes(flat, params_lib.shapes(config), source="params")
    state = {}
    for entry in torch_names.mapping(config, layout):
        value = np.asarray(flat[entry.path], np.float32)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        state[entry.torch_key] = np.ascontiguousarray(value)
    path = Path(path)
    if path.suffix == ".safetensors":
        data = safetensors.numpy.save(state, metadata={"format": "pt"})
    elif path.suffix in (".pth", ".pt"):
        torch = _import_torch(path)
        tensors = {key: torch.from_numpy(value) for key, value in state.items()}
        buffer = io.BytesIO()
        torch.save(_wrap(tensors, layout), buffer)
        data = buffer.getvalue()
    else:
        raise InputError(f"{path}: name the file .pth or .safetensors")
    files.write(path, data)


def _wrap(tensors: dict[str, Any], layout: Layout) -> dict[str, Any]:
    if layout == "basicsr":
        return {"params": tensors}
    if layout == "mmagic":
        inside = {f"generator.{key}": value for key, value in tensors.items()}
        return {"meta": {}, "state_dict": inside}
    return tensors


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a .safetensors file, or say in one line what is wrong with it.

    Args:
        path: The file.

    Yields:
        The open file: ``keys()``, ``get_tensor(key)``, ``metadata()``.

    Raises:
        InputError: if it is missing or damaged.
    """
    _require_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path}: not a readable .safetensors file, damaged or cut off "
            f"({first_line(error)})"
        ) from None


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; name a weights file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")


def _read(path: Path) -> Any:
    """Read a file into what was saved, with NumPy arrays for tensors."""
    if path.suffix == ".safetensors":
        with open_safetensors(path) as file:
            if (file.metadata() or {}).get("format") == NATIVE_FORMAT:
                raise InputError(
                    f"{path}: has edvr_jax's own format; load_weights reads it"
                )
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    _require_file(path)
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] != b"\x80" and start != b"PK":  # a pickle, or a zip file with one
        raise InputError(
            f"{path}: not a weights file; give .safetensors, or what torch.save wrote"
        )
    torch = _import_torch(path)
    try:
        state = _load_tensors(path, torch)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(
            f"{path}: not a readable PyTorch file, damaged or cut off "
            f"({first_line(error)})"
        ) from None
    return _to_numpy(state, torch)


def _load_tensors(path: Path, torch: Any) -> Any:
    """Load a pickled file; no code of it runs, and foreign objects become inert."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # more than weights
        inert: Any = types.ModuleType("inert")
        inert.Unpickler, inert.load = _InertUnpickler, _load_inert
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=inert
        )


class _Inert:
    """Stand-in for every object that is no tensor: takes anything and does nothing."""

    def __new__(cls, *_, **__):
        """Take any arguments."""
        return super().__new__(cls)

    def _ignore(self, *_, **__): ...

    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignore


_PythonUnpickler: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]


class _InertUnpickler(_PythonUnpickler):
    """Finds what tensors are made of; everything else is inert.

    Torch's own list decides. Not in C, so that a file sets no attributes of functions.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def load_build(self) -> None:
        """Set the state of what was made: of instances, never of what makes them."""
        made = self.stack[-2]
        if isinstance(made, type | types.FunctionType | types.BuiltinFunctionType):
            raise pickle.UnpicklingError(f"sets attributes of {made.__name__}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return a class or function of a pickle, or what stands for it."""
        from torch import _weights_only_unpickler  # pyright: ignore[reportMissingImports]

        allowed = _weights_only_unpickler._get_allowed_globals()
        return allowed.get(f"{module_name}.{global_name}", _Inert)


def _load_inert(file: Any, **options: Any) -> Any:
    return _InertUnpickler(file, **options).load()


def _to_numpy(value: Any, torch: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_numpy(item, torch) for key, item in value.items()}
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).numpy()
    return value


def _import_torch(path: Path) -> Any:
    with needs_extra("torch", f"{path}: .pth files, unlike .safetensors, need torch"):
        import torch  # pyright: ignore[reportMissingImports]
    return torch
