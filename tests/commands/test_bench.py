import json

import pytest

from edvr_jax import cli
from edvr_jax.bench import measure
from edvr_jax.errors import InputError


def bench(*arguments):
    return cli.main(["bench", *map(str, arguments)])


def test_measures_writes_and_compares(tmp_path, capsys):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert bench("--cases", "deform_conv", "--repeats", 1, "--json", first) == 0
    report = json.loads(first.read_text())
    assert list(report["cases"]) == ["matmul", "copy", "deform_conv"]
    measured = report["cases"]["deform_conv"]
    assert measured["median_s"] > 0
    # 5 images of 64x64 positions, 9 taps, 64 to 64 channels, 2 operations each
    assert measured["flops"] == 2 * 5 * 64 * 64 * 9 * 64 * 64
    assert measured["host_peak_bytes"] > 2 * 5 * 64 * 64 * 64 * 4
    assert measured["items"] == 0
    assert 0 < measured["cores"] < 64

    report["cases"]["matmul"]["median_s"] = 1e6  # the new one is far faster
    second.write_text(json.dumps(report))
    capsys.readouterr()
    assert bench("--cases", "matmul", "--repeats", 1, "--compare", second) == 0
    header, matmul, copy = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "new/old"
    assert matmul.split()[-1] == "0.00"
    assert float(copy.split()[-1]) > 0


@pytest.mark.slow
def test_pipeline_is_measured_in_windows(tmp_path):
    file = tmp_path / "data.json"
    assert bench("--cases", "data_png", "--repeats", 1, "--json", file) == 0
    measured = json.loads(file.read_text())["cases"]["data_png"]
    assert measured["items"] == 8 * 32
    # Ground truth in float32 or uint8, and the degraded frames.
    assert measured["bytes"] >= 8 * 32 * (256 * 256 + 5 * 64 * 64) * 3


@pytest.mark.parametrize("text", [None, "not json", "[]", '{"cases": {"copy": 1}}'])
def test_other_file_to_compare_with_is_refused(tmp_path, capsys, text):
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    assert bench("--compare", path) == 2
    assert "old.json: not a file that edvr bench" in capsys.readouterr().err


def test_what_was_measured_before_a_failure_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "measure_all", fail_after_the_references)
    file = tmp_path / "bench.json"
    assert bench("--json", file) == 2
    assert list(json.loads(file.read_text())["cases"]) == ["matmul", "copy"]


def fail_after_the_references(cases, *, dtype, repeats):
    for case in measure.REFERENCES:
        yield measure.Measurement(
            case, "", 1, 1, 0, 1.0, 0.0, 1.0, (1.0, 1.0), None, None
        )
    raise InputError("records need tensorflow-datasets")


def test_no_repeats_are_refused(capsys):
    assert bench("--repeats", 0) == 2
    assert "--repeats must be positive" in capsys.readouterr().err
