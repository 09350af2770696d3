"""A full disk ends a run with one line that names the file; the run continues later.

Every file that training writes was looked at: those below, the log and a whole run
(test_changed_runs.py), checkpoints (test_checkpoint.py), scores, the final weights, the
configuration, W&B's id (all by files.write, test_files.py), decoded frames
(data/test_decode_cache.py) and the output of the command (test_cli.py).
"""

import contextlib
import resource
import signal
import struct

import jax
import numpy as np
import pytest
import tensorboardX
from tensorboardX.proto import event_pb2

from edvr_jax.errors import OutputError
from edvr_jax.train.event_file import EventFile
from edvr_jax.train.profiling import Profile
from edvr_jax.train.reporter import Reporter
from edvr_jax.train.validation import Validated


@contextlib.contextmanager
def at_most(seconds):
    """Fail, instead of waiting forever."""

    def fail(*_):
        raise AssertionError("blocked")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again, if closing blocks, too
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def largest_file(num_bytes):
    """Limit the size of the files of this process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_events_that_cannot_be_written_do_not_block(experiment, tmp_path):
    validated = Validated({"psnr_y": 30.0, "psnr_rgb": 29.0})

    def write_many(reporter):
        (tmp_path / "log.jsonl").symlink_to("/dev/null")
        for step in range(5000):
            reporter.report_validation(step, validated)

    with (
        at_most(20),
        Reporter(experiment, tmp_path, 0, lambda line: None) as reporter,
        largest_file(20_000),
        pytest.raises(OutputError, match=r"events\.out\.tfevents.*File too large"),
    ):
        write_many(reporter)


def test_image_that_cannot_be_written_is_named(experiment, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (64, 192, 3), np.uint8)
    validated = Validated({"psnr_y": 30.0}, image=image)
    with Reporter(experiment, tmp_path, 0, lambda line: None) as reporter:
        with (
            largest_file(10_000),
            pytest.raises(OutputError, match=r"0000001\.png: .*File too large"),
        ):
            reporter.report_validation(1, validated)
        assert not list((tmp_path / "images").iterdir())
        (tmp_path / "images").rmdir()
        (tmp_path / "images").touch()
        with pytest.raises(OutputError, match=r"0000001\.png: cannot be written"):
            reporter.report_validation(1, validated)


def test_trace_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "profile").touch()  # no folder: the profiler fails as on a full disk
    try:
        with (
            pytest.raises(OutputError, match="profile: cannot be written"),
            Profile((0, 9), tmp_path / "profile") as profile,
        ):
            profile.before(0)
    finally:
        (tmp_path / "profile").unlink()
        jax.profiler.stop_trace()


def test_events_are_those_of_tensorboard_s_format(tmp_path):
    """Records as tensorboardX writes them, in the order that TensorBoard expects."""
    events = EventFile(tmp_path, first_step=4)
    events.add_scalars(4, {"loss": 0.5, "offset_mean/dcn_pack_l1": 2.0})
    events.add_image(4, "crop", np.zeros((2, 3, 3), np.uint8))
    (path,) = tmp_path.iterdir()
    data, found = path.read_bytes(), []
    other = tensorboardX.RecordWriter(str(tmp_path / "other"))
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        record = data[position + 12 : position + 12 + length]
        found.append(event_pb2.Event.FromString(record))
        other.write(record)
        position += length + 16
    other.close()
    assert data == (tmp_path / "other").read_bytes()
    version, start, scalars, image = found
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (4, event_pb2.SessionLog.START)
    values = {value.tag: value.simple_value for value in scalars.summary.value}
    assert values == {"loss": 0.5, "offset_mean/dcn_pack_l1": 2.0}
    assert (image.step, image.summary.value[0].image.width) == (4, 3)
