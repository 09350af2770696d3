"""The folder of a run: what is refused leaves it as it was; one run at a time."""

import dataclasses
import os
import shutil
import socket

import pytest

from edvr_jax import weights
from edvr_jax.errors import InputError
from edvr_jax.train import workdir
from tests.training import replace, run
from tests.weights.test_runs import write_run


@pytest.fixture
def finished(experiment, random_params, tmp_path):
    """A run that was done: checkpoints, weights, log, scores."""
    params = random_params(experiment.model)
    folder = write_run(tmp_path / "run", experiment, params, [3, 6], {3: 30.0})
    weights.save_weights(
        folder / "ema.safetensors", experiment.model, params, origin="", license=""
    )
    (folder / "log.jsonl").write_text('{"step": 3, "loss": 1.0, "num_skipped": 0}\n')
    (folder / "images").mkdir()
    (folder / "images" / "0000003.png").write_bytes(b"png")
    return folder


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# Looked at as well: --chain (each phase checks itself), edvr prepare and records, whose
# folders are in tests/commands.
REFUSED = {
    "no such data": ({}, {"data": "nowhere"}, "nowhere"),
    "no such validation clip": ({"data__val_clips": ("nobody",)}, {}, "nobody"),
    "a crop larger than the clips": ({"data__gt_crop": 96}, {}, "smaller than data"),
    "no such weights": ({}, {"init": ("nothing.pth",)}, "nothing.pth"),
    "weights that do not fit": ({}, {"init": ("edvr_s_x4",)}, "32 features"),
    "no such test set": (
        {"eval__protocol": "vid4"},
        {"eval_data": "elsewhere"},
        "elsewhere",
    ),
    "batches that processes cannot share": (
        {"init__fresh": ("nothing",)},
        {},
        "init.fresh",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_overwrite_leaves_the_run_as_it_was(
    experiment, clips, finished, tmp_path, case
):
    changes, place, message = REFUSED[case]
    place = {"data": clips, **place}
    for name in ("data", "eval_data"):
        if name in place:
            place[name] = tmp_path / place[name]
    before = content(finished)
    with pytest.raises(InputError, match=message):
        run(
            replace(experiment, **changes),
            place.pop("data"),
            finished,
            overwrite=True,
            **place,
        )
    assert content(finished) == before


def test_refused_changes_leave_the_run_as_it_was(experiment, finished, tmp_path):
    before = content(finished)
    for options in ({}, {"accept_changes": True}):
        with pytest.raises(InputError):
            run(
                dataclasses.replace(experiment, seed=1),
                tmp_path / "mistyped",
                finished,
                **options,
            )
        assert content(finished) == before


def test_a_checkpoint_that_does_not_fit_leaves_the_run_as_it_was(
    experiment, clips, finished
):
    """It is read last, after all other checks."""
    before = content(finished)
    for changed in (experiment, dataclasses.replace(experiment, seed=1)):
        with pytest.raises(InputError, match="6: written by another version"):
            run(changed, clips, finished, accept_changes=True)
        assert content(finished) == before


@pytest.mark.parametrize("left", ["ema.safetensors", "log.jsonl"])
def test_a_run_without_its_checkpoints_is_not_started_anew(
    experiment, clips, finished, left
):
    """They were deleted to save room: weights and log are still worth something."""
    shutil.rmtree(finished / "checkpoints")
    for name in {"ema.safetensors", "log.jsonl"} - {left}:
        (finished / name).unlink()
    before = content(finished)
    with pytest.raises(InputError, match=r"without its checkpoints.*--overwrite"):
        run(experiment, clips, finished)
    assert content(finished) == before
    assert not workdir.check(finished, experiment, overwrite=True)


@pytest.mark.parametrize(
    ("line", "was_saving"),
    [
        ('{"step": 1, "num_skipped": 0}\n{"st', False),
        ('{"step": 3, "num_skipped": 2}\n', False),  # not saved: bad steps
        ('{"step": 3, "num_skipped": 0}\n', True),
    ],
)
def test_a_run_that_saved_nothing_starts_again(experiment, tmp_path, line, was_saving):
    """Killed before its first checkpoint; decoded frames and a lock may be there."""
    workdir.prepare_workdir(tmp_path / "run", experiment, is_continued=False)
    (tmp_path / "run" / "log.jsonl").write_text(line)
    if was_saving:  # killed while it wrote the first one
        (tmp_path / "run" / "checkpoints").mkdir()
    assert not workdir.check(tmp_path / "run", experiment, overwrite=False)
    for name in ("frames", "lock", "owner"):
        (tmp_path / "other" / name).mkdir(parents=True)
    assert not workdir.check(tmp_path / "other", experiment, overwrite=False)


def test_second_run_is_refused_at_once_and_names_the_first(experiment, clips, finished):
    with workdir.Lock(finished):
        before = content(finished)
        for options in ({}, {"overwrite": True}):
            with pytest.raises(InputError) as error:
                run(experiment, clips, finished, **options)
            for fact in (finished, f"process {os.getpid()}", socket.gethostname()):
                assert str(fact) in str(error.value)
        assert content(finished) == before
    with workdir.Lock(finished):  # free again
        pass


def test_lock_of_a_new_folder_begins_with_the_run(tmp_path):
    """A run that is refused leaves no folder, and no lock in one that was there."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with workdir.Lock(tmp_path / name):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    with workdir.Lock(tmp_path / "new") as lock:
        lock.hold()
        with (
            pytest.raises(InputError, match="is training there"),
            workdir.Lock(tmp_path / "new"),
        ):
            pass
