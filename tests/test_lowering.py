"""The network and its gradients lower for accelerators that are not here."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.config import OptimConfig
from edvr_jax.models import create_model
from edvr_jax.train import steps

# Calls that would need code of ours, or of a CPU, on the device. A layout is a mark for
# XLA's compiler.
CUSTOM_CALL = re.compile(r"stablehlo.custom_call @(?!LayoutConstraint\b)(\w+)")
LAYOUT = jax.export.DisabledSafetyCheck.custom_call("LayoutConstraint")


def lower(function, *arguments, platform):
    export = jax.export.export(
        jax.jit(function), platforms=[platform], disabled_checks=[LAYOUT]
    )
    exported = export(*arguments)
    assert exported.platforms == (platform,)
    return exported


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_network_lowers(tiny_config, random_params, platform):
    model = create_model(tiny_config)
    apply = lambda params, frames: model.apply({"params": params}, frames)
    frames = jax.ShapeDtypeStruct((2, 3, 16, 24, 3), jnp.float32)
    exported = lower(apply, random_params(tiny_config), frames, platform=platform)
    assert exported.out_avals[0].shape == (2, 64, 96, 3)
    assert not CUSTOM_CALL.findall(exported.mlir_module())


@pytest.mark.parametrize(
    ("platform", "options"),
    [("cuda", {}), ("tpu", {"remat": True, "micro_batch_size": 1})],
)
def test_gradients_lower(tiny_config, random_params, platform, options):
    gradients = functools.partial(
        steps.global_gradients,
        model=create_model(tiny_config),
        config=OptimConfig(**options),
    )
    mapped = jax.vmap(
        gradients, in_axes=(None, 0), out_axes=None, axis_name=steps.BATCH_AXIS
    )
    batch = {
        "lq": np.zeros((1, 2, 3, 16, 16, 3), np.uint8),
        "gt": np.zeros((1, 2, 64, 64, 3), np.uint8),
    }
    params = random_params(tiny_config)
    exported = lower(mapped, params, batch, platform=platform)
    # Loss, gradients, and two numbers of four deformable convolutions.
    assert len(exported.out_avals) == 1 + len(jax.tree.leaves(params)) + 8
    assert not CUSTOM_CALL.findall(exported.mlir_module())
