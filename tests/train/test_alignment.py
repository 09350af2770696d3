"""The offset-fidelity loss: what it guides, and what it leaves alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from edvr_jax.config import FidelityConfig, OptimConfig
from edvr_jax.data.flow import texture, window_flow
from edvr_jax.models import create_model
from edvr_jax.models import params as params_lib
from edvr_jax.train import alignment, steps
from tests.training import on_one_device, read_log, replace, run

ALONE = FidelityConfig(weight=1.0, alone=True)


@pytest.fixture(scope="module")
def photograph(fixtures):
    """A real frame, uint8 RGB."""
    return np.load(fixtures / "psnr_ssim.npz")["a_rgb"][0]


@pytest.fixture(scope="module")
def batch(photograph):
    """Two windows that move over the photograph, and their flow at level 1."""
    windows, flows = [], []
    for dy, dx in ((1, 2), (-2, 1)):
        corners = np.array([[20, 30], [20 - dy, 30 - dx], [20 + dy, 30 + dx]])
        corners = corners[[1, 0, 2]]  # the center in the middle
        windows.append([photograph[y : y + 16, x : x + 16] for y, x in corners])
        flow = (corners[1] - corners).astype(np.float16)
        flows.append(np.broadcast_to(flow[:, None, None], (3, 16, 16, 2)))
    return {"lq": np.array(windows), "flow": np.array(flows)}


@functools.cache
def compiled(model, config):
    function = functools.partial(steps.global_gradients, model=model, config=config)
    return on_one_device(function, P())


def gradients(model, params, batch, config, step=0):
    return compiled(model, config)(params, batch, step)


def test_targets_of_the_levels_by_hand():
    ramp = jnp.arange(8.0).reshape(1, 1, 1, 8, 1)
    flow = jnp.broadcast_to(ramp, (1, 1, 8, 8, 2))
    rows = {level: alignment.flow_at(f"a/dcn_pack_l{level}", flow) for level in (1, 2)}
    np.testing.assert_array_equal(rows[1], flow)
    np.testing.assert_allclose(rows[2][0, 0, 0, :, 0], [0.25, 1.25, 2.25, 3.25])
    third = alignment.flow_at("dcn_pack_l3", flow)
    np.testing.assert_allclose(third[0, 0, 0, :, 1], [0.375, 1.375])
    assert not alignment.flow_at("stage/cas_dcnpack", flow).any()
    assert alignment.flow_at("my_alignment/dcn", flow) is None


def test_weight_is_a_function_of_the_step():
    fidelity = FidelityConfig(weight=2.0, decay_periods=2)
    config = OptimConfig(
        period_steps=(4, 6, 9), restart_weights=(1.0,) * 3, fidelity=fidelity
    )
    weights = [float(alignment.fidelity_weight(step, config)) for step in (0, 5, 20)]
    np.testing.assert_allclose(weights, [2, 1, 0])
    constant = OptimConfig(fidelity=FidelityConfig(weight=2.0))
    assert float(alignment.fidelity_weight(1000, constant)) == 2


def test_correlation_by_hand():
    flow = np.array([[1.0, -1.0], [2.0, -2.0]])
    np.testing.assert_allclose(alignment.correlation(0.5 * flow + 3, flow), 1)
    np.testing.assert_allclose(alignment.correlation(-flow, flow), -1)
    assert alignment.correlation(np.ones_like(flow), flow) == 0


def test_flow_of_a_scene_that_moves_is_estimated(photograph):
    """The content moves by (3, -2): it is found there, in pixels of 4."""
    center, other = photograph[20:84, 30:94], photograph[17:81, 32:96]
    still = np.tile([20, 30], (2, 1))
    flow = window_flow([center, other], still, center=0, pixel=4)
    assert flow.shape == (2, 16, 16, 2)
    assert not flow[0].any()
    inner = flow[1, 3:-3, 3:-3] * 4
    # Measured: off by 0.04 pixels on average.
    np.testing.assert_allclose(inner.mean((0, 1)), [3, -2], atol=0.2)


def test_flow_of_the_camera_is_added(photograph):
    crop = photograph[20:84, 30:94]
    corners = np.array([[20, 30], [16, 32]])
    flow = window_flow([crop, crop], corners, center=0, pixel=4)
    np.testing.assert_array_equal(flow[1], np.broadcast_to([1, -0.5], (16, 16, 2)))


def test_texture_prefers_detail(photograph):
    blurred = np.full_like(photograph, photograph.mean())
    assert texture(photograph) > texture(blurred) == 0


def test_alone_trains_features_and_offsets_only(tiny_config, random_params, batch):
    config = dataclasses.replace(tiny_config, scale=1)
    params = random_params(config, scale=0.1)
    loss, grads, metrics = gradients(
        create_model(config), params, batch, OptimConfig(fidelity=ALONE)
    )
    assert loss > 0
    changed = {
        path.split("/")[0] if "pcd" not in path else path.split("/")[1]
        for path, grad in params_lib.flatten(grads).items()
        if np.any(grad)
    }
    assert {"conv_first", "conv_l3_2", "offset_conv1_l3", "dcn_pack_l1"} <= changed
    assert not {"fusion", "conv_last", "cas_dcnpack", "cas_offset_conv1"} & changed
    assert not any("cas" in name for name in metrics)
    flow_mean = np.abs(batch["flow"].astype(np.float32)).mean()
    np.testing.assert_allclose(metrics["flow_mean/pcd_align/dcn_pack_l1"], flow_mean)


def test_fidelity_is_added_with_its_weight(tiny_config, random_params, batch):
    """The decayed loss is Charbonnier's; before, fidelity's share is the weight's."""
    config = dataclasses.replace(tiny_config, scale=1, with_tsa=False)
    params, model = random_params(config, scale=0.1), create_model(config)
    whole = {**batch, "gt": batch["lq"][:, 1]}
    without = {key: value for key, value in whole.items() if key != "flow"}
    plain, expected, _ = gradients(model, params, without, OptimConfig())
    guided = OptimConfig(
        period_steps=(4,),
        restart_weights=(1.0,),
        fidelity=FidelityConfig(weight=2.0, decay_periods=1),
    )
    losses = {}
    for step in (0, 2, 4):
        losses[step], grads, _ = gradients(model, params, whole, guided, step)
    np.testing.assert_allclose(losses[4], plain, rtol=1e-6)
    share = losses[0] - plain
    assert share > 0
    np.testing.assert_allclose(losses[2] - plain, share / 2, rtol=1e-3)
    for actual, wanted in zip(
        jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True
    ):
        largest = float(abs(wanted).max())
        np.testing.assert_allclose(actual, wanted, atol=1e-5 * largest)


def test_networks_without_pcd_are_refused(tiny_config, random_params, batch):
    collections = {"mean_offsets": {"mine": {"mean": jnp.zeros((6, 16, 16, 2))}}}
    with pytest.raises(ValueError, match="dcn_pack_l1"):
        alignment.fidelity(
            collections, jnp.asarray(batch["flow"]), config=ALONE, weight=None
        )


@pytest.mark.usefixtures("shared_steps")
def test_run_of_the_alignment_alone(experiment, clips, tmp_path):
    """The log shows error and flow, validation the correlation, and it resumes."""
    config = replace(
        experiment,
        data__synthetic_motion=1.0,
        data__crop_candidates=2,
        optim__fidelity=ALONE,
        optim__tsa_warmup_steps=0,
        total_steps=3,
    )
    state, _ = run(config, clips, tmp_path / "run")
    records = read_log(tmp_path / "run")
    assert records[0]["flow_mean/pcd_align/dcn_pack_l1"] > 0
    assert records[0]["flow_error/pcd_align/dcn_pack_l1"] > 0
    scores = next(r for r in records if "flow_correlation" in r)
    assert scores.keys() == {"step", "flow_correlation"}
    assert int(state.step) == 3
