"""A run that is continued, changed, overwritten or cut short, on a small network."""

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from edvr_jax import save_weights
from edvr_jax.errors import InputError, OutputError
from tests.train.test_workdir import content
from tests.training import assert_same_bits, losses, read_log, replace, run

pytestmark = pytest.mark.usefixtures("shared_steps")


@pytest.fixture(scope="module")
def config(unaligned):
    return unaligned


@pytest.fixture(scope="module")
def undisturbed(config, clips, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, *run(config, clips, workdir)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_line_and_the_run_continues(
    config, clips, undisturbed, tmp_path
):
    """Files that grow during a run; others are in test_full_disk.py."""
    for name, step in (("events.out*", 3), ("log.jsonl", 4)):

        def fill(name=name):
            (path,) = (tmp_path / "run").rglob(name)
            path.rename(tmp_path / path.name)
            path.symlink_to("/dev/full")

        with pytest.raises(OutputError) as error:
            run(config, clips, tmp_path / "run", stop_at=step, action=fill)
        assert "cannot be written: No space left" in str(error.value)
        assert "\n" not in str(error.value)
        (path,) = (p for p in (tmp_path / "run").rglob(name) if p.is_symlink())
        assert str(error.value).startswith(f"{path}: ")
        (tmp_path / path.name).replace(path)
    state, lines = run(config, clips, tmp_path / "run")
    assert "resumed at step 4" in lines
    assert_same_bits(state, undisturbed[1])
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]


def test_overwrite_starts_again(config, clips, undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "run")
    other = dataclasses.replace(config, seed=1, total_steps=1)
    _, lines = run(other, clips, tmp_path / "run", overwrite=True)
    assert not any("resumed" in line for line in lines)
    assert [r["step"] for r in read_log(tmp_path / "run")] == [1, 1]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1


def test_finished_run_is_left_as_it_is(config, clips, undisturbed):
    workdir, state, _ = undisturbed
    again, lines = run(config, clips, workdir)
    assert "resumed at step 6" in lines
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_other_clips_need_consent(config, clips, undisturbed, tmp_path):
    """One more clip, one less, one of other frames: the same bits are not to be had."""
    workdir = undisturbed[0]
    for change in ("new: more", "gone: train", "changed: train"):
        data = tmp_path / change.split(":")[0]
        shutil.copytree(clips, data)
        if change != "changed: train":
            shutil.copytree(data / "train", data / "more")
        if change == "gone: train":
            shutil.rmtree(data / "train")
        if change == "changed: train":
            (data / "train" / "0.png").unlink()
        with pytest.raises(InputError, match=change):
            run(config, data, workdir)
    _, lines = run(config, tmp_path / "new", workdir, accept_changes=True)
    assert "note: other clips from here on: new: more" in lines
    run(config, clips, workdir)  # back again


def test_replaced_frame_needs_consent(config, clips, undisturbed, tmp_path):
    """Of the same name and size; not for a run that was begun without digests."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed[0], folder)
    shutil.copytree(clips, tmp_path / "data", copy_function=shutil.copyfile)
    run(config, tmp_path / "data", folder)  # a copy
    path = tmp_path / "data" / "train" / "3.png"
    size = path.stat().st_size
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[:size])
    before = content(folder)
    with pytest.raises(InputError, match=r"not the clips of this run \(changed: train"):
        run(config, tmp_path / "data", folder)
    assert content(folder) == before
    for data in (folder / "checkpoints").glob("*/data/metadata"):
        fields = json.loads(data.read_text())
        fields["clips"]["train"].pop()
        data.write_text(json.dumps(fields))
    _, lines = run(config, tmp_path / "data", folder)
    assert "resumed at step 6" in lines
    (tmp_path / "data" / "train" / "5.png").unlink()
    with pytest.raises(InputError, match="changed: train"):
        run(config, tmp_path / "data", folder)


def test_other_settings_need_consent(config, clips, undisturbed, tmp_path):
    workdir = undisturbed[0]
    changed = dataclasses.replace(config, seed=1)
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        run(changed, clips, workdir)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(config, clips, tmp_path)
    (tmp_path / "config.json").write_text('{"name": "of another program"}')
    with pytest.raises(InputError, match="is no configuration of this version"):
        run(config, clips, tmp_path, overwrite=True)
    assert (tmp_path / "config.json").exists()


def test_another_network_is_refused_even_with_consent(config, clips, undisturbed):
    model = dataclasses.replace(config.model, num_extract_blocks=2)
    changed = dataclasses.replace(config, model=model)
    with pytest.raises(InputError, match=r"another network \(model.num_extract"):
        run(changed, clips, undisturbed[0], accept_changes=True)


def test_a_run_of_damaged_checkpoints_is_left_as_it_is(
    config, clips, undisturbed, tmp_path
):
    """Also with other settings; without all checkpoints but one it continues."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed[0], folder)
    for data in (folder / "checkpoints").glob("*/data"):
        shutil.rmtree(data)
    before = content(folder)
    for changed in (config, dataclasses.replace(config, seed=1)):
        with pytest.raises(InputError, match=r"6: damaged .*every other checkpoint"):
            run(changed, clips, folder, accept_changes=True)
        assert content(folder) == before
    shutil.copytree(
        undisturbed[0] / "checkpoints" / "4",
        folder / "checkpoints" / "4",
        dirs_exist_ok=True,
    )
    _, lines = run(config, clips, folder)
    assert "resumed at step 4" in lines


def test_accepted_changes_keep_the_weights_of_before(
    config, clips, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed[0], folder)
    for number in (1, 2):
        weights_before = (folder / "ema.safetensors").read_bytes()
        changed = dataclasses.replace(config, seed=number)
        run(changed, clips, folder, accept_changes=True)
        assert (folder / f"ema-{number}.safetensors").read_bytes() == weights_before


def test_without_a_guard_a_loss_that_is_not_finite_stops_before_the_checkpoint(
    config, clips, random_params, tmp_path
):
    params = random_params(config.model, scale=1e6)
    init = str(tmp_path / "huge.safetensors")
    save_weights(init, config.model, params, origin="", license="")
    config = replace(config, log_every_steps=6, guard__enabled=False)
    with pytest.raises(FloatingPointError, match="near step 3"):
        run(config, clips, tmp_path / "run", init=(init,))
    (start,) = (tmp_path / "run" / "checkpoints").glob("[0-9]*")
    assert start.name == "0"
