"""The paired benchmark, on tiny cases."""

import importlib
import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("optimized")

CASES = ("deform_conv_backward", "deform_conv_gradient", "window_m", "train_step_m")


@pytest.fixture
def against_torch(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("against_torch")


def make_row(against_torch, difference):
    sides = {
        name: {
            "seconds": [seconds, 2 * seconds, 3 * seconds],
            "first_seconds": 10 * seconds,
            "peak_bytes": 2_000_000,
            "baseline_bytes": 1_000_000,
            "device_peak_bytes": None,
            "deform_conv": "grid_sample",
        }
        for name, seconds in (("torch", 2.0), ("jax", 1.0))
    }
    labels = {"case": "window_m", "precision": "float32", "mode": "eager"}
    return against_torch.make_row(labels, sides, difference)


def test_ratio_of_equal_outputs(against_torch):
    row = make_row(against_torch, 9e-5)
    assert row["ratio"] == row["paired_ratio"] == 0.5
    assert row["torch"]["quartiles"] == [3, 4, 5]
    assert row["jax"]["compile_seconds"] == 8
    assert against_torch.format_row(row)[7:9] == ["0.500", "0.500"]


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_no_ratio_of_different_outputs(against_torch, difference):
    row = make_row(against_torch, difference)
    assert not row["is_equal"]
    assert row["ratio"] is row["paired_ratio"] is None
    assert "outputs differ" in " ".join(against_torch.format_row(row))


@pytest.mark.parity
@pytest.mark.usefixtures("compiled_as_users_do")
def test_both_frameworks_compute_the_same(tmp_path):
    pytest.importorskip("torch")
    report = tmp_path / "report.json"
    command = [sys.executable, ROOT / "benchmarks/against_torch.py", "--tiny"]
    command += ["--repeats", "1", "--json", report, "--cases", *CASES]
    subprocess.run(command, check=True, timeout=600)
    rows = json.loads(report.read_text())["rows"]
    assert [row["case"] for row in rows] == list(CASES)
    assert all(row["ratio"] > 0 for row in rows)
