"""The benchmark of the pipeline runs, and its clips are of the size of REDS."""

import dataclasses

import pytest

from edvr_jax.config import Config, DataConfig
from edvr_jax.data import throughput

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.mark.parametrize("kind", ["png", "records", "video"])
def test_every_kind_is_measured(folder, kind, monkeypatch):
    monkeypatch.setattr(throughput, "NUM_CLIPS", 1)
    monkeypatch.setattr(throughput, "NUM_FRAMES", 6)
    config = Config(data=DataConfig(batch_size=1))
    speed = throughput.measure_pipeline(
        kind, folder, lq="given", num_batches=2, config=config
    )
    assert dataclasses.astuple(speed)[:3] == (kind, "given", 0)
    assert 0 < speed.windows_per_s < 10_000
    assert 0 < speed.windows_per_core_s < 10_000


def test_png_files_are_of_the_size_of_reds(folder):
    files = list((folder / "png-x4" / "gt" / "clip0").glob("*.png"))
    assert len(files) == 6
    assert 1.0e6 < files[0].stat().st_size < 2.0e6  # REDS: 34.3 GB / 24 000
