"""Which share of a library a process takes."""

import itertools

import pytest

from edvr_jax.commands.shard import Shard, parse_shard
from tests.messages import refused


def slurm(task, count, first=1, last=None):
    names = ("ID", "COUNT", "MIN", "MAX")
    values = (task, count, first, last or first + count - 1)
    return {f"SLURM_ARRAY_TASK_{n}": str(v) for n, v in zip(names, values, strict=True)}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("3/8", {}, Shard(3, 8)),
        ("1/1", slurm(3, 8), Shard(1, 1)),
        ("auto", slurm(3, 8), Shard(3, 8)),
        ("auto/8", slurm(3, 1, 3, 3), Shard(3, 8)),  # one task of the array again
        ("auto/8", {"JOB_COMPLETION_INDEX": "0"}, Shard(1, 8)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, Shard(8, 8)),
    ],
)
def test_share_by_number_or_scheduler(text, environment, expected):
    assert parse_shard(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment", "facts"),
    [
        ("3", {}, ["--shard 3"]),
        ("a/8", {}, ["a/8"]),
        ("0/8", {}, ["0 of 8"]),
        ("9/8", {}, ["9 of 8"]),
        ("1/0", {}, ["1 of 0"]),
        ("auto", {}, ["SLURM_ARRAY_TASK_ID"]),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, ["auto/8"]),
        ("auto", slurm(0, 8, 0), ["from 0 to 7", "--array=1-8"]),
        ("auto", slurm(3, 1, 3), ["from 3 to 3", "auto/8"]),
        ("auto", slurm(3, 2, 1, 3), ["2 tasks", "auto/8"]),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, ["SLURM_ARRAY_TASK_COUNT"]),
        ("auto/8", {}, ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "none"]),
        ("auto/8", {**slurm(1, 8), "JOB_COMPLETION_INDEX": "0"}, ["both"]),
        ("auto/8", slurm(0, 8, 0), ["0 of 8", "--array=1-8"]),
        ("auto/8", {"JOB_COMPLETION_INDEX": "8"}, ["9 of 8"]),
        ("auto/8", {"JOB_COMPLETION_INDEX": "x"}, ["JOB_COMPLETION_INDEX", "'x'"]),
    ],
)
def test_nothing_is_guessed(text, environment, facts):
    with refused(*facts):
        parse_shard(text, environment)


@pytest.mark.parametrize("count", [1, 3, 7, 9])
def test_shares_are_all_of_it_once(count):
    items = list(range(7))
    shares = [Shard(number + 1, count).select(items) for number in range(count)]
    assert sorted(itertools.chain(*shares)) == items
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
