"""The clips that the pipeline is measured on can be read, and have REDS' size."""

import pytest

from edvr_jax.bench import throughput
from edvr_jax.config import Config, DataConfig

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.mark.parametrize("kind", ["png", "records", "video"])
def test_every_kind_gives_batches(folder, kind, monkeypatch):
    monkeypatch.setattr(throughput, "NUM_CLIPS", 1)
    monkeypatch.setattr(throughput, "NUM_FRAMES", 6)
    config = Config(data=DataConfig(batch_size=1))
    with throughput.open_pipeline(kind, folder, lq="given", config=config) as batches:
        batch = next(batches)
    assert batch["lq"].shape == (1, 5, 64, 64, 3)
    assert batch["gt"].shape == (1, 256, 256, 3)


def test_png_files_are_of_the_size_of_reds(folder):
    files = list((folder / "png-x4" / "gt" / "clip0").glob("*.png"))
    assert len(files) == 6
    assert 1.0e6 < files[0].stat().st_size < 2.0e6  # REDS: 34.3 GB / 24 000
