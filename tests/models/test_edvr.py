import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax import InputError
from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.models import Cascade, create_model
from edvr_jax.models import params as params_lib

TINY = {
    "num_features": 8,
    "num_frames": 3,
    "deformable_groups": 2,
    "num_extract_blocks": 1,
    "num_reconstruct_blocks": 1,
}


def random_params(model, frames, seed=0):
    """Parameters with noise everywhere, so that offsets are not zero."""
    params = jax.jit(model.init)(jax.random.key(seed), frames)["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [
        leaf + 0.05 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)


def random_frames(*shape):
    return jax.random.uniform(jax.random.key(7), shape)


@pytest.mark.parametrize(
    ("change", "size", "output"),
    [
        ({"scale": 1}, (8, 12), (8, 12, 3)),
        ({"scale": 2}, (8, 12), (16, 24, 3)),
        ({"scale": 3}, (8, 12), (24, 36, 3)),
        ({"scale": 4, "num_frames": 1}, (8, 12), (32, 48, 3)),
        ({"hr_in": True, "scale": 1}, (16, 32), (16, 32, 3)),
        ({"hr_in": True, "with_predeblur": True}, (16, 32), (16, 32, 3)),
        ({"in_channels": 1, "out_channels": 1}, (8, 12), (32, 48, 1)),
        ({"in_channels": 4, "with_predeblur": True}, (8, 12), (32, 48, 3)),
        ({"num_frames": 9, "with_tsa": False}, (8, 12), (32, 48, 3)),
    ],
)
def test_every_variant_has_its_output_shape(change, size, output):
    config = ModelConfig(**{**TINY, **change})
    frames = jax.ShapeDtypeStruct(
        (2, config.num_frames, *size, config.in_channels), jnp.float32
    )
    model = create_model(config)
    out, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x), frames
    )
    assert out.shape == (2, *output)
    assert out.dtype == jnp.float32
    leaves = jax.tree.leaves(variables["params"])
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.fixture(scope="module")
def tiny():
    model = create_model(ModelConfig(**TINY))
    frames = random_frames(2, 3, 8, 12, 3)
    return model, random_params(model, frames), frames


def test_encode_then_reconstruct_is_the_call(tiny):
    model, params, frames = tiny
    variables = {"params": params}
    expected = jax.jit(model.apply)(variables, frames)
    levels = [model.apply(variables, frames[:, t], method="encode") for t in range(3)]
    pyramid = tuple(jnp.stack(level, axis=1) for level in zip(*levels, strict=True))
    actual = model.apply(variables, pyramid, frames[:, 1], method="reconstruct")
    # Measured 4e-7, CPU; also the test that jit changes nothing.
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_gradients_are_finite_and_reach_every_parameter(tiny):
    model, params, frames = tiny
    loss = lambda p: jnp.abs(model.apply({"params": p}, frames)).sum()
    for path, gradient in params_lib.flatten(jax.jit(jax.grad(loss))(params)).items():
        assert jnp.isfinite(gradient).all(), path
        assert jnp.abs(gradient).max() > 0, path


def test_bfloat16_is_close_to_float32(tiny):
    model, params, frames = tiny
    half = create_model(ModelConfig(**TINY, dtype="bfloat16"))
    expected = model.apply({"params": params}, frames)
    actual = jax.jit(half.apply)({"params": params}, frames)
    assert actual.dtype == jnp.float32
    # Measured 0.004 on outputs of about 1, CPU.
    np.testing.assert_allclose(actual, expected, atol=0.03)


def test_wrong_frames_are_refused(tiny):
    model, params, _ = tiny
    with pytest.raises(ValueError, match=r"expected frames \[N, 3"):
        model.apply({"params": params}, jnp.zeros((1, 5, 8, 8, 3)))
    with pytest.raises(ValueError, match="multiples of 4"):
        model.apply({"params": params}, jnp.zeros((1, 3, 10, 8, 3)))


def test_initialisation_follows_the_reference():
    model = create_model(ModelConfig(num_features=64, deformable_groups=8))
    frames = jnp.zeros((1, 5, 8, 8, 3))
    params = jax.jit(model.init)(jax.random.key(0), frames)["params"]
    block = params["reconstruction_0"]["conv1"]
    # Kaiming normal x 0.1: 0.1 * sqrt(2 / (9 * 64)).
    assert float(block["kernel"].std()) == pytest.approx(
        0.1 * (2 / 576) ** 0.5, rel=0.05
    )
    assert not block["bias"].any()
    dcn = params["pcd_align"]["cas_dcnpack"]
    assert not dcn["conv_offset"]["kernel"].any()
    assert not dcn["conv_offset"]["bias"].any()
    assert not dcn["bias"].any()
    for layer, bound in ((dcn, 1 / 24), (params["conv_hr"], 1 / 24)):
        largest = float(jnp.abs(layer["kernel"]).max())
        assert 0.98 * bound < largest <= bound
    assert 0 < float(jnp.abs(params["conv_hr"]["bias"]).max()) <= 1 / 24


def test_cascade_is_stage_two_on_the_outputs_of_stage_one():
    config = CascadeConfig(
        ModelConfig(**TINY, scale=2), ModelConfig(**TINY, hr_in=True, scale=1)
    )
    model = create_model(config)
    frames = random_frames(1, 5, 8, 16, 3)
    params = random_params(model, frames)
    assert set(params) == {"stage1", "stage2"}
    actual = jax.jit(model.apply)({"params": params}, frames)

    stage1, stage2 = create_model(config.stage1), create_model(config.stage2)
    first = [
        stage1.apply({"params": params["stage1"]}, frames[:, i : i + 3])
        for i in range(3)
    ]
    window = jnp.clip(jnp.stack(first, axis=1), 0, 1)
    expected = stage2.apply({"params": params["stage2"]}, window)
    assert actual.shape == (1, 16, 32, 3)
    # Measured 6e-7, CPU.
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"\[N, 5"):
        model.apply({"params": params}, frames[:, :3])


def test_parts_are_replaced_only_where_they_exist():
    fusion = create_model(ModelConfig(**TINY)).fusion
    with pytest.raises(ValueError, match="with_predeblur"):
        create_model(ModelConfig(**TINY), predeblur=fusion)
    with pytest.raises(ValueError, match="Cascade"):
        create_model(CascadeConfig(), fusion=fusion)
    stage = create_model(ModelConfig(**TINY), fusion=fusion)
    assert Cascade(stage1=stage, stage2=stage).stage1.fusion is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 4}, "odd"),
        ({"deformable_groups": 3}, "divide"),
        ({"center_frame_index": 3}, "center_frame_index"),
        ({"scale": 5}, "scale"),
        ({"scale": 2, "hr_in": True}, "hr_in"),
        ({"in_channels": 2}, "out_channels"),
        ({"num_features": 0}, "num_features"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        ModelConfig(**{**TINY, **change})
