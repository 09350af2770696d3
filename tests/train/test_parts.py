"""Parts of one's own in training: numbers, resume to the bit, refusals."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax import create_model, load_weights
from edvr_jax.config import FidelityConfig, GuardConfig, OptimConfig
from edvr_jax.errors import Stopped
from edvr_jax.models import params as params_lib
from edvr_jax.train import losses, optim, parallel, steps, train, workdir
from edvr_jax.train.parts import check_parts
from edvr_jax.train.state import initial_state
from tests.messages import refused
from tests.own_modules import Plain, Wrong
from tests.training import assert_same_bits, on_one_device, read_log, replace, run
from tests.weights.test_runs import write_run

pytestmark = pytest.mark.usefixtures("shared_steps")


def square_error(output, target):
    return jnp.square(output - target).mean()


def brightest(restored, truth):
    assert restored.shape == truth.shape
    assert restored.dtype == truth.dtype == np.uint8
    return float(restored.max())


def darken(sample, rng):
    factor = rng.uniform(0.5, 1)
    dark = {key: (sample[key] * factor).astype(np.uint8) for key in ("lq", "gt")}
    return {**sample, **dark}


OWN = {
    "loss": square_error,
    "metrics": {"brightest": brightest},
    "augment": darken,
}

NOTHING = {"model": None, "loss": None, "metrics": None, "augment": None}


@pytest.fixture(scope="module")
def config(experiment):
    return replace(experiment, optim__tsa_warmup_steps=0)


@pytest.fixture(scope="module")
def own(config):
    """Keywords of ``train`` with a module that has the call alone."""
    return {"model": Plain(), **OWN}


@pytest.fixture(scope="module")
def undisturbed(config, clips, own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "whole"
    return folder, *run(config, clips, folder, **own)


def test_loss_by_hand():
    pred, target = jnp.zeros((2, 2, 2, 3)), jnp.ones((2, 2, 2, 3))
    pred = pred.at[1].set(3)
    total = functools.partial(losses.sum_over_windows, square_error, pred, target)
    assert float(total()) == 1 + 4
    assert float(total(weight=jnp.array([1.0, 0.0]))) == 1


@pytest.mark.parametrize(
    ("options", "same"),
    [
        (OptimConfig(), losses.charbonnier),
        (OptimConfig(loss="rmse"), losses.root_mean_square),
    ],
    ids=["charbonnier", "rmse"],
)
def test_losses_as_ones_own_give_their_gradients(tiny_config, options, same):
    """Six windows on four devices, some of which count nothing; also in parts."""
    rng = np.random.default_rng(0)
    batch = {
        "lq": rng.integers(0, 256, (6, 3, 8, 8, 3), np.uint8),
        "gt": rng.integers(0, 256, (6, 32, 32, 3), np.uint8),
    }
    params = {
        key: rng.normal(0, 0.1, shape).astype(np.float32)
        for key, shape in params_lib.shapes(tiny_config, Plain()).items()
    }
    params = params_lib.unflatten(params)
    optimizer = optim.create_optimizer(options)

    def moments(**own):
        step = parallel.ParallelTrainStep(
            model=Plain(),
            optimizer=optimizer,
            config=options,
            guard=GuardConfig(),
            **own,
        )
        state = initial_state(jax.tree.map(jnp.asarray, params), optimizer)
        state, metrics = step(state, parallel.shard(batch))
        return float(metrics["loss"]), state.params

    loss, expected = moments()
    found, actual = moments(loss=same)
    assert found == pytest.approx(loss, rel=1e-6)
    # Where a gradient is nearly zero, its sign may differ, and Adam's step with it.
    rate = 1.001 * 2 * options.peak_lr
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=rate),
        actual,
        expected,
    )

    def gradient(own):
        function = functools.partial(
            steps.global_gradients, model=Plain(), config=options, loss=own
        )
        return on_one_device(function)(params, batch)[1]

    both = [gradient(own) for own in (None, same)]
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        # Measured 3e-7 of the largest gradient, CPU, for another order of sums.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(abs(b).max()))


def test_log_has_what_is_own(undisturbed, config):
    folder, state, lines = undisturbed
    assert int(state.step) == 6
    assert set(state.params) == {"Conv_0"}
    scores = [r for r in read_log(folder) if "psnr_y" in r]
    assert [r["step"] for r in scores] == [3, 6]
    for record in scores:
        assert 100 < record["brightest"] <= 255
        assert record["brightest_bicubic"] == scores[0]["brightest_bicubic"]
        assert "flow_correlation" not in record  # there is no PCDAlignment
    assert any(f"brightest {scores[0]['brightest']:.4g}" in line for line in lines)
    # The mean of the windows' losses, and no sum over their pixels.
    first = next(r for r in read_log(folder) if "loss" in r)
    assert 0 < first["loss"] < 1
    record = json.loads((folder / "parts.json").read_text())
    assert record.pop("shapes").keys() == {"Conv_0/kernel", "Conv_0/bias"}
    assert record == {"model": "Plain()", "loss": "square_error", "augment": "darken"}


def test_stopped_and_resumed_to_the_bit(config, clips, own, undisturbed, tmp_path):
    for step in (2, 5):
        with pytest.raises(Stopped):
            run(config, clips, tmp_path / "run", stop_at=step, **own)
    state, lines = run(config, clips, tmp_path / "run", **own)
    assert "resumed at step 5" in lines
    assert_same_bits(state, undisturbed[1])


def test_weights_of_the_run_are_the_modules(config, undisturbed):
    folder, state, _ = undisturbed
    for name in (folder, folder / "ema.safetensors", f"{folder}@best"):
        with refused(folder, "a module of your own", "Plain()"):
            load_weights(name)
        found, params = load_weights(name, model=Plain())
        assert found == config.model
    _, params = load_weights(folder, model=Plain())
    jax.tree.map(np.testing.assert_array_equal, params, dict(state.ema_params))


def test_starting_from_weights_of_ones_own(config, clips, undisturbed, tmp_path):
    init = (str(undisturbed[0] / "ema.safetensors"),)
    short = replace(config, total_steps=1)
    _, lines = run(short, clips, tmp_path / "run", init=init, model=Plain())
    assert any("2 parameters from" in line for line in lines)
    with refused("parameters do not fit", "Conv_0"):
        run(short, clips, tmp_path / "stock", init=init)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        (
            {"model": None},
            (
                "another network",
                "Plain()",
                "2 missing: Conv_0",
                "unexpected: conv_first",
            ),
        ),
        ({"model": Plain(kernel=5)}, ("another network", "3x3x9x48", "5x5x9x48")),
        ({"loss": None}, ("loss: square_error -> None", "--accept-changes")),
        ({"augment": None}, ("augment: darken -> None", "--accept-changes")),
    ],
)
def test_a_run_is_not_continued_with_other_parts(
    config, clips, own, undisturbed, changes, facts
):
    folder = undisturbed[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with refused(folder, *facts):
        run(config, clips, folder, **{**own, **changes})
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {p: t for p, t in kept.items() if p.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }


def test_a_stock_run_is_not_continued_with_a_module(config, random_params, tmp_path):
    folder = write_run(tmp_path / "run", config, random_params(config.model), [3])
    with refused(folder, "another network", "Plain()"):
        record = check_parts(config, **{**NOTHING, "model": Plain()}).record(config)
        workdir.check(folder, config, parts=record, overwrite=False)
    # The network itself is no module of one's own.
    same = check_parts(config, **{**NOTHING, "model": create_model(config.model)})
    assert same.record(config) == {}
    assert workdir.check(folder, config, overwrite=False)


def test_finished_means_with_the_same_parts(config, own, undisturbed):
    folder = undisturbed[0]
    record = check_parts(config, **own).record(config)
    assert workdir.is_done(folder, config, record)
    assert not workdir.is_done(folder, config)


@pytest.mark.parametrize(
    ("parts", "changes", "facts"),
    [
        ({"model": Wrong("size")}, {}, ("Wrong()", "[1, 64, 64, 3]")),
        ({"model": Wrong("none")}, {}, ("Wrong()", "no parameters")),
        (
            {"model": Plain()},
            {"optim__tsa_warmup_steps": 1},
            ("Plain()", "fusion", "optim.tsa_warmup_steps"),
        ),
        (
            {"model": Plain()},
            {"optim__fidelity": FidelityConfig(weight=1.0)},
            ("Plain()", "PCDAlignment", "optim.fidelity"),
        ),
        (
            {"loss": square_error},
            {"optim__fidelity": FidelityConfig(weight=1.0, alone=True)},
            ("optim.fidelity.alone", "loss"),
        ),
        ({"loss": lambda a, b: a - b}, {}, ("loss", "one float", "(1, 32, 32, 3)")),
        ({"loss": lambda a, b: float(a.sum())}, {}, ("loss", "<lambda>")),
        ({"loss": lambda a: a}, {}, ("loss", "TypeError")),
        ({"loss": "l1"}, {}, ("loss", "function", "str")),
        ({"metrics": {"loss": brightest}}, {}, ("metrics", "loss")),
        ({"metrics": {"psnr_y": brightest}}, {}, ("metrics", "psnr_y")),
        ({"augment": 3}, {}, ("augment", "function", "int")),
    ],
)
def test_what_does_not_fit_is_one_line(config, clips, tmp_path, parts, changes, facts):
    with refused(*facts):
        train(
            replace(config, **changes),
            data=clips,
            workdir=tmp_path / "run",
            log=lambda line: None,
            **parts,
        )
    assert not (tmp_path / "run").exists()
