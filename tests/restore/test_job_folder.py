"""What becomes of an earlier job, and the locks and settings of a job's folder."""

import concurrent.futures
import itertools

import pytest

from edvr_jax.restore.job_folder import BusyError, JobFolder, decide
from tests.messages import refused

NO_JOB, SAME, OTHER = None, [], ["crf: 17 -> 20"]


@pytest.mark.parametrize(
    ("changes", "is_left", "resume", "overwrite", "action"),
    [
        (NO_JOB, False, False, False, "begin"),
        (NO_JOB, False, True, False, "begin"),
        (NO_JOB, True, False, False, "partial exists"),
        (NO_JOB, True, True, False, "partial exists"),
        (NO_JOB, True, False, True, "begin"),
        (SAME, True, True, False, "continue"),
        (SAME, False, True, True, "continue"),
        (SAME, True, False, False, "job exists"),
        (SAME, True, False, True, "job exists"),
        (OTHER, True, False, False, "job differs"),
        (OTHER, True, True, False, "job differs"),
        (OTHER, True, True, True, "job differs"),
        (OTHER, True, False, True, "begin"),
    ],
)
def test_decision(changes, is_left, resume, overwrite, action):
    found = decide(changes, is_left=is_left, resume=resume, overwrite=overwrite)
    assert found == action


def test_a_job_that_can_be_resumed_is_never_deleted():
    for left, resume, overwrite in itertools.product([False, True], repeat=3):
        options = {"is_left": left, "resume": resume, "overwrite": overwrite}
        assert decide(SAME, **options) != "begin"


def begin(folder, settings, *, resume=False, overwrite=False):
    return folder.begin(settings, resume=resume, overwrite=overwrite)


def test_job_keeps_its_plans_and_names_what_differs(tmp_path):
    settings, plans = {"encoding": {"crf": 17}, "input": "a"}, [{"tile": 96}]
    folder = JobFolder(tmp_path / "out.mp4")
    assert begin(folder, settings) == ()
    folder.save(plans)
    folder.end()
    assert not list(tmp_path.iterdir())  # nothing was restored
    assert begin(folder, settings) == ()
    folder.save(plans)
    (folder.parts / "000000.nut").touch()
    folder.end()
    assert begin(folder, settings, resume=True) == plans
    folder.end()
    with refused(folder.output, "encoding crf: 17 -> 20", "input", "--resume"):
        begin(folder, {"encoding": {"crf": 20}, "input": "b"}, resume=True)
    folder.end()
    assert folder.is_resumable


def test_job_that_saves_nothing_cannot_be_resumed(tmp_path):
    folder = JobFolder(tmp_path / "out.mp4")
    begin(folder, {})
    (folder.parts / "000000.nut").touch()
    assert not folder.is_resumable
    folder.end()
    assert not list(tmp_path.iterdir())


def test_jobs_that_end_are_not_in_the_way_of_others(tmp_path):
    """A folder is deleted while other processes try to begin there."""

    def work(_):
        num_begun = 0
        for _ in range(300):
            folder = JobFolder(tmp_path / "out.mp4")
            try:
                begin(folder, {}, resume=True)
                mark = folder.parts / ".mark"
                mark.touch(exist_ok=False)
                mark.unlink()
                num_begun += 1
            except BusyError:
                pass
            finally:
                folder.end()
        return num_begun

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) > 0
    assert not list(tmp_path.iterdir())


def test_output_of_another_process_is_not_restored_again(tmp_path):
    folder = JobFolder(tmp_path / "out.mp4")
    folder.output.touch()
    with refused(folder.output, "exists already"):
        begin(folder, {})
    folder.end()
    assert begin(folder, {}, overwrite=True) == ()
    folder.end()
