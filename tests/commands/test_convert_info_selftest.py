import re

import jax
import numpy as np
import pytest
import safetensors.numpy

from edvr_jax import weights
from edvr_jax.commands import convert as convert_command
from edvr_jax.commands import info, selftest
from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib
from edvr_jax.weights import torch_files

pytestmark = pytest.mark.usefixtures("optimized")

SECOND = ModelConfig(
    num_features=8, num_frames=3, deformable_groups=2, scale=1, hr_in=True
)
FIRST = ModelConfig(num_features=8, num_frames=3, deformable_groups=2, scale=2)


def zeros(config):
    shapes = params_lib.shapes(config)
    return params_lib.unflatten({k: np.zeros(s, "float32") for k, s in shapes.items()})


def save(path, config):
    weights.save_weights(
        path, config, zeros(config), origin="some clips", license="CC0-1.0"
    )
    return str(path)


def test_convert_through_all_layouts(fixtures, tmp_path, capsys):
    source = fixtures / "models/mmagic_sr.safetensors"
    files = [source]
    for layout in ("native", "official", "basicsr", "mmagic"):
        files.append(tmp_path / f"{layout}.safetensors")
        convert_command.Convert(str(files[-2]), files[-1], layout).run()
    first, last = (safetensors.numpy.load_file(files[i]) for i in (0, -1))
    assert first.keys() == last.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, last[key])
    assert "104 tensors, 118731 parameters" in capsys.readouterr().out


def test_convert_reports_every_name_and_shape_of_both_sides(fixtures, tmp_path, capsys):
    source = fixtures / "models/official_sr.safetensors"
    target = tmp_path / "a.safetensors"
    convert_command.Convert(str(source), target, "basicsr").run()
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["official", "shape", "basicsr", "shape"]
    rows = [re.split(r"\s{2,}", line) for line in lines[:-1]]
    before, after = safetensors.numpy.load_file(source), torch_files._read(target)
    for column, state in ((0, before), (2, after)):
        assert sorted(row[column] for row in rows) == sorted(state)
        for row in rows:
            assert row[column + 1] == "x".join(map(str, state[row[column]].shape))
    assert ["tsa_fusion.tAtt_1.bias", "8", "fusion.temporal_attn2.bias", "8"] in rows


def test_convert_keeps_and_takes_origin_and_license(fixtures, tmp_path, capsys):
    source = fixtures / "models/official_sr.safetensors"
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    convert_command.Convert(str(source), first, origin="REDS", license="CC").run()
    convert_command.Convert(str(first), second).run()
    metadata = weights.read_metadata(second)
    assert (metadata.origin, metadata.license) == ("REDS", "CC")
    convert_command.Convert(str(source), first, overwrite=True).run()
    assert "official_sr.safetensors" in weights.read_metadata(first).origin
    assert capsys.readouterr().err == ""


def test_convert_to_half_precision(fixtures, tmp_path, capsys):
    source = fixtures / "models/official_sr.safetensors"
    files = [tmp_path / f"{dtype}.safetensors" for dtype in ("float32", "float16")]
    for path in files:
        convert_command.Convert(str(source), path, dtype=path.stem).run()
    full, half = (safetensors.numpy.load_file(path) for path in files)
    assert full.keys() == half.keys()
    for key, value in full.items():
        np.testing.assert_array_equal(value.astype(np.float16), half[key])
        assert half[key].dtype == np.float16
    assert capsys.readouterr().err == ""


def test_convert_refuses(tmp_path, fixtures):
    cascade = save(tmp_path / "c.safetensors", CascadeConfig(FIRST, SECOND))
    with pytest.raises(InputError, match="stage by stage"):
        convert_command.Convert(cascade, tmp_path / "a.safetensors", "basicsr").run()
    source = str(fixtures / "models/official_stage2_hr_in.safetensors")
    with pytest.raises(InputError, match="mmagic's EDVR has neither"):
        convert_command.Convert(source, tmp_path / "a.safetensors", "mmagic").run()
    target = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="float16 is for the native layout"):
        convert_command.Convert(source, target, "basicsr", dtype="float16").run()
    with pytest.raises(InputError, match="folder does not exist"):
        convert_command.Convert(source, tmp_path / "no/a.safetensors").run()
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


def test_info_of_the_published_network(tmp_path, capsys):
    info.Info(save(tmp_path / "m.safetensors", ModelConfig())).run()
    out = capsys.readouterr().out
    assert "parameters  3,300,131\n" in out
    assert "origin      some clips\n" in out
    assert "license     CC0-1.0\n" in out
    assert "5 frames of 180x320 -> 720x1280" in out
    assert "467.2 G for one window, 376.5 G over a clip" in out
    assert re.search(r"deformable_groups +8\n", out)


def test_info_of_a_pytorch_file_and_of_a_cascade(fixtures, tmp_path, capsys):
    path = fixtures / "models/official_deblur_predeblur_hr_in.safetensors"
    info.Info(str(path), height=64, width=48).run()
    out = capsys.readouterr().out
    assert "(official)" in out
    assert "not stated in the file" in out
    assert "64x48 -> 64x48" in out

    path = save(tmp_path / "c.safetensors", CascadeConfig(FIRST, SECOND))
    info.Info(path, height=64, width=48).run()
    out = capsys.readouterr().out
    assert "stage 1: 3 frames of 64x48 -> 128x96" in out
    assert "stage 2: 3 frames of 128x96 -> 128x96" in out


def test_info_refuses(fixtures):
    with pytest.raises(InputError, match="no such weights"):
        info.Info("nothing").run()
    with pytest.raises(InputError, match="must be positive"):
        info.Info(str(fixtures / "models/basicsr_sr.safetensors"), height=0).run()


def test_selftest_passes_here(capsys):
    assert selftest.Selftest().run() == 0
    out = capsys.readouterr().out
    assert jax.devices()[0].device_kind in out
    assert out.count("PASS") == 2


def test_selftest_finds_a_wrong_device(monkeypatch, capsys):
    errors = {"highest": 1e-3, "default": float("inf")}
    monkeypatch.setattr(selftest, "max_error", errors.get)
    assert selftest.Selftest().run() == 1
    assert capsys.readouterr().out.count("FAIL") == 2


def test_selftest_error_is_measured(monkeypatch):
    # A network with one wrong parameter must not pass.
    def from_torch(path):
        config, params = real(path)
        params["conv_last"]["bias"] = params["conv_last"]["bias"] + 0.25
        return config, params

    real = torch_files.from_torch
    monkeypatch.setattr(selftest.torch_files, "from_torch", from_torch)
    assert selftest.max_error("highest") == pytest.approx(0.25, abs=1e-5)
