"""Modules of one's own: what is refused, what is traced, their names."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from edvr_jax import create_model
from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.models import Cascade, own
from edvr_jax.models import params as params_lib
from tests.messages import refused
from tests.own_modules import CenterAlignment, Plain, Wrong


class Listed(nn.Module):
    """Has a field that cannot be hashed."""

    values: Any

    def __call__(self, frames):
        return frames


def test_shapes_are_those_of_the_module(tiny_config):
    shapes = params_lib.shapes(tiny_config, Plain())
    assert shapes == {"Conv_0/kernel": (3, 3, 9, 48), "Conv_0/bias": (48,)}
    replaced = create_model(tiny_config, pcd_align=CenterAlignment())
    found = params_lib.shapes(tiny_config, replaced)
    stock = params_lib.shapes(tiny_config)
    rest = {k: s for k, s in stock.items() if not k.startswith("pcd_align")}
    added = {"pcd_align/Conv_0/kernel": (3, 3, 16, 8), "pcd_align/Conv_0/bias": (8,)}
    assert found == {**rest, **added}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("size", ("[1, 3, 16, 16, 3]", "[1, 64, 64, 3]", "(1, 16, 16, 3)")),
        ("type", ("float", "uint8")),
        ("tuple", ("tuple",)),
        ("norm", ("from its parameters alone", "batch_stats")),
        ("dropout", ("from its parameters alone", "dropout")),
        ("bug", ("KeyError", "first line")),
    ],
)
def test_what_is_no_network_is_one_line(tiny_config, kind, facts):
    with refused("model Wrong()", *facts):
        params_lib.shapes(tiny_config, Wrong(kind))


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        (Plain, ("flax.linen.Module", "Plain")),
        ("edvr_m", ("flax.linen.Module", "str")),
        (Listed(np.zeros(2)), ("Listed()", "hashable")),
    ],
)
def test_what_is_no_module_is_one_line(tiny_config, model, facts):
    with refused(*facts):
        params_lib.shapes(tiny_config, model)


def test_a_cascade_has_two_stages(tiny_config):
    stage2 = ModelConfig(num_features=8, num_frames=3, deformable_groups=2, scale=1)
    config = CascadeConfig(stage1=tiny_config, stage2=stage2)
    with refused("Plain()", "Cascade(stage1=..., stage2=...)"):
        params_lib.shapes(config, Plain())
    assert params_lib.shapes(config, create_model(config)) == params_lib.shapes(config)
    first = create_model(tiny_config, pcd_align=CenterAlignment())
    replaced = Cascade(stage1=first, stage2=create_model(stage2))
    assert own.is_own(config, replaced)
    assert "stage1/pcd_align/Conv_0/kernel" in params_lib.shapes(config, replaced)


def test_names_and_what_is_own(tiny_config):
    replaced = create_model(tiny_config, pcd_align=CenterAlignment())
    assert own.describe(replaced) == "EDVR(pcd_align=CenterAlignment, fusion=TSAFusion)"
    assert own.describe(Plain()) == "Plain()"
    assert own.is_own(tiny_config, replaced)
    assert not own.is_own(tiny_config, create_model(tiny_config))
    assert not own.is_own(tiny_config, None)


def test_tracing_computes_nothing(tiny_config):
    params = own.parameters(tiny_config, Plain())
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params))
