"""Maps of a network whose offsets and attention are known."""

import dataclasses

import jax
import numpy as np
import pytest

from edvr_jax.models import create_model, layers
from edvr_jax.models import params as params_lib
from edvr_jax.report import maps

OFFSET_LENGTHS = {"level 3": 0.0, "level 2": 5.0, "level 1": 0.0, "cascade": 1.0}


@pytest.fixture(scope="module")
def params(tiny_config):
    """Zeros, but for two offsets and the embeddings of the attention."""
    flat = {
        key: np.zeros(shape, np.float32)
        for key, shape in params_lib.shapes(tiny_config).items()
    }
    # The reference's order: dy and dx in turn, then the masks.
    num_offsets = 2 * tiny_config.deformable_groups * 9
    bias = flat["pcd_align/dcn_pack_l2/conv_offset/bias"]
    bias[0:num_offsets:2], bias[1:num_offsets:2] = 3, -4
    flat["pcd_align/cas_dcnpack/conv_offset/bias"][0:num_offsets:2] = 1
    flat["fusion/temporal_attn1/bias"][:] = 1
    flat["fusion/temporal_attn2/bias"][:] = 0.25
    return params_lib.unflatten(flat)


@pytest.fixture
def window(tiny_config):
    """A window whose frames are no multiple of 4 in size."""
    shape = (tiny_config.num_frames, 18, 21, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_maps_are_those_of_the_network(tiny_config, params, window):
    found = maps.compute(tiny_config, params, window)
    assert list(found.offsets) == list(OFFSET_LENGTHS)
    sizes = {"level 3": (5, 6), "level 2": (9, 11)}
    for name, length in OFFSET_LENGTHS.items():
        values = found.offsets[name]
        assert values.shape == (3, *sizes.get(name, (18, 21)))
        # Biases alone: exact in float32.
        np.testing.assert_array_equal(values, length)
    assert found.attention is not None
    assert found.attention.shape == (3, 18, 21)
    # The sum over 8 channels of 1 x 0.25 is 2; measured 0 beside rounding.
    np.testing.assert_allclose(found.attention, 1 / (1 + np.exp(-2)), rtol=1e-6)


def test_network_without_alignment(tiny_config, window):
    config = dataclasses.replace(
        tiny_config, num_frames=1, with_tsa=False, with_alignment=False
    )
    found = maps.compute(config, {}, window[:1])
    assert (found.offsets, found.attention) == ({}, None)
    assert "no alignment" in found.note


def test_attention_is_written_only_where_it_is_wanted(tiny_config, params, window):
    model = create_model(tiny_config)
    frames = np.zeros((2, 3, 8, 8, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), frames)
    assert set(variables) == {"params"}
    _, collections = jax.eval_shape(
        lambda p, x: model.apply(
            {"params": p}, x, mutable=[layers.TEMPORAL_ATTENTION, layers.OFFSETS]
        ),
        params,
        frames,
    )
    assert set(collections) == {layers.TEMPORAL_ATTENTION, layers.OFFSETS}
    similarity = collections[layers.TEMPORAL_ATTENTION]["fusion"]["similarity"]
    assert similarity.shape == (2, 3, 8, 8)
    assert similarity.dtype == np.float32
