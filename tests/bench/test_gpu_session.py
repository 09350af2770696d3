"""benchmarks/gpu_session.py, tried on the CPU."""

import json
import subprocess
import sys

import pytest

from tests.training import ROOT


def run(folder, *options):
    command = [sys.executable, "benchmarks/gpu_session.py", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    steps = json.loads((folder / "summary.json").read_text())["steps"]
    return done.returncode, {step["step"]: step["result"] for step in steps}


def test_steps_without_time_are_named(tmp_path):
    code, results = run(tmp_path, "--device", "cpu", "--tiny", "--minutes", "0")
    assert code == 0
    assert results["selftest"] == results["bench_bfloat16"] == "no time"


@pytest.mark.slow
def test_a_failing_step_does_not_stop_the_others(tmp_path):
    (tmp_path / "bench_bfloat16.json").mkdir()  # cannot be written
    code, results = run(tmp_path, "--device", "cpu", "--tiny")
    assert code == 1
    assert results["selftest"] == results["bench_float32"] == "done"
    assert results["bench_bfloat16"].startswith("failed: ")
    assert json.loads((tmp_path / "bench_float32.json").read_text())


@pytest.mark.slow
def test_without_a_gpu_nothing_is_measured(tmp_path):
    code, results = run(tmp_path, "--tiny")
    assert code == 1
    assert all(result.startswith("failed: ") for result in results.values())
