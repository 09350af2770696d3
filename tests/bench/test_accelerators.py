"""benchmarks/accelerators.py: the program, and the estimates that it reads."""

import importlib
import json
import subprocess
import sys

import pytest

from tests.training import ROOT

BENCHMARKS = ROOT / "benchmarks"

# A loop of five trips around a fusion, in the form of XLA's text.
PROGRAM = """HloModule jit_f

%inner (p: f32[8]) -> f32[8] {
  ROOT %n = f32[8] negate(%p), metadata={op_name="jit(f)/fusion/neg"}
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %f = f32[8] fusion(%x), kind=kLoop, calls=%inner, metadata={op_name="jit(f)/EDVR/\
pcd_align/dcn_pack_l1/while/body/mul"}, backend_config={"estimated_cycles":"100"}
}

%condition (p: (s32[], f32[8])) -> pred[] {
  %limit = s32[] constant(5)
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %w = (s32[], f32[8]) while(%t), condition=%condition, body=%body
  ROOT %c = f32[8] copy(%g), metadata={op_name="jit(f)/transpose(jvp())/EDVR/\
feature_extraction_3/conv1"}, backend_config={"estimated_cycles":"7"}
}
"""


@pytest.fixture
def estimates(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("estimates")


def test_cycles_count_loops_as_often_as_they_run(estimates):
    assert estimates.estimate_cycles(PROGRAM) == {
        "cycles": 507,
        "cycles_by_part": {
            "pcd_align/dcn_pack_l1": 500,
            "gradients of feature_extraction": 7,
        },
    }


@pytest.mark.slow
def test_network_and_training_step_compile_for_tpus(tmp_path):
    pytest.importorskip("libtpu")
    path = tmp_path / "plans.json"
    command = [sys.executable, "accelerators.py", "--tiny", "--json", str(path)]
    command += ["--cases", "window_m", "train_m", "--chips", "4"]
    subprocess.run(command, cwd=BENCHMARKS, check=True)
    window, step = json.loads(path.read_text())["rows"]
    assert window["cycles"] > 0
    assert not window["collectives"]
    assert step["cycles"] > window["cycles"]
    assert step["collectives"]["all-reduce"] >= 1
