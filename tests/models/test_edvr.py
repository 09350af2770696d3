import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax import InputError
from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.models import Cascade, create_model
from edvr_jax.models import params as params_lib
from edvr_jax.train import losses


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
def test_every_variant_has_its_output_shape(tiny_config, change, size, output):
    config = dataclasses.replace(tiny_config, **change)
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
def tiny(tiny_config, random_params):
    frames = random_frames(2, 3, 8, 12, 3)
    return create_model(tiny_config), random_params(tiny_config, scale=0.1), frames


def test_encode_then_reconstruct_is_the_call(tiny):
    model, params, frames = tiny
    variables = {"params": params}
    expected = jax.jit(model.apply)(variables, frames)
    # Without jit, which must change nothing.
    levels = [model.apply(variables, frames[:, t], method="encode") for t in range(3)]
    pyramid = tuple(jnp.stack(level, axis=1) for level in zip(*levels, strict=True))
    reconstruct = jax.jit(functools.partial(model.apply, method="reconstruct"))
    actual = reconstruct(variables, pyramid, frames[:, 1])
    # Measured 6e-7, CPU.
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_gradients_are_finite_and_reach_every_parameter(tiny):
    model, params, frames = tiny
    loss = lambda p: jnp.abs(model.apply({"params": p}, frames)).sum()
    gradients = jax.device_get(jax.jit(jax.grad(loss))(params))
    for path, gradient in params_lib.flatten(gradients).items():
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def test_bfloat16_is_close_to_float32(tiny, tiny_config):
    model, params, frames = tiny
    half = create_model(dataclasses.replace(tiny_config, dtype="bfloat16"))
    expected = jax.jit(model.apply)({"params": params}, frames)
    actual = jax.jit(half.apply)({"params": params}, frames)
    assert actual.dtype == jnp.float32
    # Measured 0.011 on outputs of up to 1.7, CPU.
    np.testing.assert_allclose(actual, expected, atol=0.03)


def test_bfloat16_computes_positions_masks_and_sums_in_float32(tiny, tiny_config):
    _, params, frames = tiny
    half = create_model(dataclasses.replace(tiny_config, dtype="bfloat16"))
    program = str(jax.make_jaxpr(half.apply)({"params": params}, frames))
    # Two coordinates at three levels for three platforms; the cascade is level 1 again.
    assert len(re.findall(r":f32\[\S+\] = floor", program)) == 18
    assert not re.findall(r":bf16\[\S+\] = (floor|reduce_sum)", program)
    # Their masks and the temporal attention; the spatial one stays in bfloat16.
    assert len(re.findall(r":f32\[\S+\] = logistic", program)) == 5
    assert re.findall(r":bf16\[\S+\] = conv_general_dilated", program)
    assert not re.findall(r":f32\[\S+\] = conv_general_dilated", program)


def test_wrong_frames_are_refused(tiny):
    model, params, _ = tiny
    with pytest.raises(ValueError, match=r"expected frames \[N, 3"):
        model.apply({"params": params}, jnp.zeros((1, 5, 8, 8, 3)))
    with pytest.raises(ValueError, match="multiples of 4"):
        model.apply({"params": params}, jnp.zeros((1, 3, 10, 8, 3)))
    for channels in (1, 4):
        with pytest.raises(ValueError, match=r"expected frames \[N, H, W, 3\]"):
            model.apply({"params": params}, jnp.zeros((1, 3, 8, 8, channels)))


# Also looked for: ConcatFusion, PreDeblur, hr_in, one frame.
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"with_predeblur": True, "hr_in": True, "scale": 1, "with_tsa": False},
        {"num_frames": 1, "with_alignment": False, "with_tsa": False},
    ],
)
def test_an_empty_batch_has_an_empty_result_and_zero_gradients(
    tiny_config, random_params, change
):
    config = dataclasses.replace(tiny_config, **change)
    model, params = create_model(config), random_params(config)
    frames = jnp.zeros((0, model.num_frames, 16, 16, 3))

    def total(params):
        restored = model.apply({"params": params}, frames)
        return restored.sum(), restored

    gradients, restored = jax.jit(jax.grad(total, has_aux=True))(params)
    assert restored.shape == (0, 16 * model.scale, 16 * model.scale, 3)
    assert all(not g.any() for g in jax.tree.leaves(gradients))


# Arguments of another kind. Also looked for: frames without a batch, int32 frames, a
# network of single images, a cascade, with_dtype.
def test_arguments_of_another_kind_are_refused(tiny, tiny_config):
    model, params, _ = tiny
    apply = functools.partial(model.apply, {"params": params})
    for dtype in (jnp.uint8, jnp.int32):
        frames = jnp.zeros((1, 3, 8, 8, 3), dtype)
        with pytest.raises(TypeError, match="frames must be floating point"):
            jax.eval_shape(jax.jit(apply), frames)
    with pytest.raises(ValueError, match=r"expected frames \[N, H, W, 3\]"):
        apply(jnp.zeros((8, 8, 3)), method="encode")
    levels = [jnp.zeros((1, 3, 8 // k, 8 // k, 8)) for k in (1, 2)]
    with pytest.raises(ValueError, match="pyramid must have the 3 levels"):
        apply(levels, jnp.zeros((1, 8, 8, 3)), method="reconstruct")
    for config in ("edvr_s_x4", None, params):
        with pytest.raises(TypeError, match="config must be a ModelConfig"):
            create_model(config)
    for dtype in ("fp16", "float16", jnp.bfloat16):
        with pytest.raises(InputError, match="dtype must be float32 or bfloat16"):
            tiny_config.with_dtype(dtype)


def test_bfloat16_under_strict_promotion(tiny, tiny_config):
    _, params, frames = tiny
    model = create_model(tiny_config.with_dtype("bfloat16"))

    def loss(params):
        restored = model.apply({"params": params}, frames)
        return losses.charbonnier(restored, jnp.zeros_like(restored))

    with jax.numpy_dtype_promotion("strict"):
        gradients = jax.eval_shape(jax.grad(loss), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_initialisation_follows_the_reference():
    config = ModelConfig(
        num_features=64,
        num_frames=1,
        num_extract_blocks=0,
        num_reconstruct_blocks=1,
        with_tsa=False,
    )
    model, frames = create_model(config), jnp.zeros((1, 1, 8, 8, 3))
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


def test_cascade_is_stage_two_on_the_outputs_of_stage_one(tiny_config, random_params):
    small = dataclasses.replace(tiny_config, num_extract_blocks=0, with_tsa=False)
    config = CascadeConfig(
        dataclasses.replace(small, scale=2),
        dataclasses.replace(small, scale=1, hr_in=True),
    )
    model = create_model(config)
    frames = random_frames(1, 5, 8, 16, 3)
    params = random_params(config, scale=0.1)
    assert set(params) == {"stage1", "stage2"}
    actual = jax.jit(model.apply)({"params": params}, frames)

    stage1, stage2 = (
        jax.jit(create_model(stage).apply) for stage in (config.stage1, config.stage2)
    )
    first = [
        stage1({"params": params["stage1"]}, frames[:, i : i + 3]) for i in range(3)
    ]
    window = jnp.clip(jnp.stack(first, axis=1), 0, 1)
    expected = stage2({"params": params["stage2"]}, window)
    assert actual.shape == (1, 16, 32, 3)
    # Measured 9e-7, CPU.
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"\[N, 5"):
        model.apply({"params": params}, frames[:, :3])


def test_parts_are_replaced_only_where_they_exist(tiny_config):
    fusion = create_model(tiny_config).fusion
    with pytest.raises(ValueError, match="with_predeblur"):
        create_model(tiny_config, predeblur=fusion)
    with pytest.raises(ValueError, match="Cascade"):
        create_model(CascadeConfig(), fusion=fusion)
    stage = create_model(tiny_config, fusion=fusion)
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
def test_impossible_configurations_are_refused(tiny_config, change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(tiny_config, **change)
