"""The whole loop on tiny clips: learns, resumes to the bit, refuses, exports."""

import dataclasses
import functools
import json
import shutil
import signal

import cv2
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from edvr_jax import load_weights
from edvr_jax.errors import InputError, Stopped
from edvr_jax.train.reporter import Reporter
from tests.training import assert_same_bits, read_log, replace, run

pytestmark = pytest.mark.usefixtures("shared_steps")


@pytest.fixture(scope="module")
def config(experiment):
    return experiment


@pytest.fixture(scope="module")
def undisturbed(config, clips, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, *run(config, clips, workdir, profile=(1, 2))


def test_log_and_files(undisturbed):
    workdir, state, lines = undisturbed
    assert int(state.step) == 6
    assert any("min to go" in line for line in lines)
    records = read_log(workdir)
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]
    scores = [r for r in records if "psnr_y" in r]
    assert [r["step"] for r in scores] == [3, 6]
    assert scores[0]["psnr_y_bicubic"] == scores[1]["psnr_y_bicubic"] > 15
    first = records[0]
    assert {"lr", "grad_norm", "windows_per_s", "num_skipped"} <= first.keys()
    assert first["offset_mean/pcd_align/cas_dcnpack"] == 0  # starts at zero
    assert records[-2]["offset_max/pcd_align/cas_dcnpack"] > 0
    steps = {p.name for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()}
    assert steps == {"3", "4", "6"}
    data = json.loads((workdir / "checkpoints" / "6" / "data" / "metadata").read_text())
    assert data["windows"] == 24
    assert data["clips"].keys() == {"train"}
    assert data["clips"]["train"][:3] == [6, 64, 96]


def test_what_there_is_to_watch(undisturbed):
    workdir = undisturbed[0]
    (events,) = (workdir / "tensorboard").iterdir()
    written = events.read_bytes()
    for tag in (b"loss", b"psnr_y", b"offset_max/pcd_align/dcn_pack_l1", b"crop"):
        assert tag in written
    images = sorted((workdir / "images").iterdir())
    assert [path.name for path in images] == ["0000003.png", "0000006.png"]
    image = cv2.imread(str(images[0]))
    assert image.shape == (64, 3 * 64, 3)  # input, restored, ground truth
    assert image[:, :64].std() > 5
    assert list((workdir / "profile").rglob("*.xplane.pb"))


def test_warm_up_trains_the_fusion_alone(config, clips, undisturbed, tmp_path):
    """At the end of the phase, and the parameters of the whole run against it."""
    with pytest.raises(Stopped):
        run(config, clips, tmp_path / "run", stop_at=2)
    saved = ocp.StandardCheckpointer().restore(
        (tmp_path / "run" / "checkpoints" / "2" / "state").absolute()
    )
    with pytest.raises(Stopped):
        run(config, clips, tmp_path / "one", stop_at=1)
    start = ocp.StandardCheckpointer().restore(
        (tmp_path / "one" / "checkpoints" / "1" / "state").absolute()
    )
    for name, tree in saved["params"].items():
        first, last = start["params"][name], undisturbed[1].params[name]
        same = [np.array_equal(a, b) for a, b in _leaves(tree, first)]
        assert all(same) == (name != "fusion"), name
        assert not all(np.array_equal(a, b) for a, b in _leaves(tree, last)), name


def _leaves(*trees):
    return zip(*map(jax.tree.leaves, trees), strict=True)


def test_exported_weights_are_the_average(config, undisturbed):
    workdir, state, _ = undisturbed
    found, params = load_weights(workdir / "ema.safetensors")
    assert found == config.model
    jax.tree.map(np.testing.assert_array_equal, params, dict(state.ema_params))
    leaves = zip(*map(jax.tree.leaves, (state.params, state.ema_params)), strict=True)
    assert any((a != b).any() for a, b in leaves)


def test_resume_inside_every_phase_and_at_every_boundary(
    config, clips, undisturbed, tmp_path
):
    """Warm-up 1, 2; first period 3, 4; second 5: stopped after each step."""
    for step in (1, 2, 3, 4, 5):
        with pytest.raises(Stopped) as stopped:
            run(config, clips, tmp_path / "run", stop_at=step)
        assert stopped.value.code == 75
    state, lines = run(config, clips, tmp_path / "run")
    assert "resumed at step 5" in lines
    assert_same_bits(state, undisturbed[1])
    # The log is that of one run too.
    both = read_log(tmp_path / "run"), read_log(undisturbed[0])
    assert [r["step"] for r in both[0]] == [r["step"] for r in both[1]]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 75)]
)
def test_signals_have_exit_codes(config, clips, tmp_path, number, code):
    with pytest.raises(Stopped) as stopped:
        run(config, clips, tmp_path / "run", stop_at=1, number=number)
    assert stopped.value.code == code
    assert (tmp_path / "run" / "checkpoints" / "1").is_dir()


def test_run_starts_from_given_weights(config, clips, undisturbed, tmp_path):
    workdir, given, _ = undisturbed
    other = dataclasses.replace(config, seed=1, total_steps=1)
    init = str(workdir / "ema.safetensors")
    state, _ = run(other, clips, tmp_path / "run", init=(init,))
    # Adam's first step moves by the learning rate at most, its average by a tenth.
    for tree, factor in ((state.params, 1), (state.ema_params, 0.1)):
        atol = 1.001 * factor * config.optim.peak_lr
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=atol)
        jax.tree.map(close, tree, given.ema_params)
    with pytest.raises(
        InputError, match=r"the weights have 32 features, the network 8; width cannot"
    ):
        run(config, clips, tmp_path / "other", init=("edvr_s_x4",))


def test_a_start_that_failed_can_be_corrected(config, clips, tmp_path):
    data = dataclasses.replace(config.data, gt_crop=96)
    with pytest.raises(InputError, match="smaller than data"):
        run(dataclasses.replace(config, data=data), clips, tmp_path / "run")
    data = dataclasses.replace(config.data, val_clips=("nobody",))
    with pytest.raises(InputError, match="no clip named nobody"):
        run(dataclasses.replace(config, data=data), clips, tmp_path / "run")


def test_short_validation_clip_is_named(config, clips, tmp_path):
    shutil.copytree(clips, tmp_path / "clips")
    for i in range(2, 6):
        (tmp_path / "clips" / "val" / f"{i}.png").unlink()
    with pytest.raises(InputError, match="val: 2 frames, but a window needs 3"):
        run(config, tmp_path / "clips", tmp_path / "run")


def test_what_cannot_be_trained_is_refused(config, clips, tmp_path):
    model = dataclasses.replace(config.model, in_channels=4)
    with pytest.raises(InputError, match="RGB"):
        run(dataclasses.replace(config, model=model), clips, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    data = dataclasses.replace(config.data, dataset="vid4")
    for clip in ("calendar", "city", "foliage", "walk"):
        shutil.copytree(clips / "val", tmp_path / "GT" / clip)
    with pytest.raises(InputError, match="6 frames instead of 41"):
        run(dataclasses.replace(config, data=data), tmp_path, tmp_path / "run")


def test_one_bad_step_among_good_ones_is_seen_without_a_guard(config, tmp_path):
    config = replace(config, guard__enabled=False)
    (tmp_path / "log.jsonl").touch()
    good = {"loss": 1.0, "grad_norm": 1.0, "is_skipped": 0.0}
    with Reporter(config, tmp_path, 0, lambda line: None) as reporter:
        for bad in ({}, {"loss": np.nan}, {}):
            reporter.add(good | bad)
        with pytest.raises(FloatingPointError, match="loss is not finite near step 3"):
            reporter.report_train(3)


def test_prefixes_that_name_nothing_are_refused(config, clips, tmp_path):
    frozen = replace(config, optim__frozen=("stage_1",))
    with pytest.raises(InputError, match="frozen: the network has no parameters under"):
        run(frozen, clips, tmp_path / "run")
    frozen = replace(config, optim__frozen=("conv_first",))
    with pytest.raises(InputError, match="would freeze random parameters"):
        run(frozen, clips, tmp_path / "run")
