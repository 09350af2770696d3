"""Weights files of tiny networks, and jobs that are interrupted."""

import dataclasses

import pytest

from edvr_jax import weights
from edvr_jax.commands import restore_report


@pytest.fixture(scope="session")
def save_network(tmp_path_factory, tiny_config, random_params):
    """Function that writes weights which do little more than bilinear upsampling."""

    def save(name, *, strength=0.05, **change):
        change = {"scale": 2, "with_tsa": False, **change}
        config = dataclasses.replace(tiny_config, **change)
        params = random_params(config, scale=strength)
        path = tmp_path_factory.mktemp("weights") / name
        weights.save_weights(path, config, params, origin="", license="")
        return str(path)

    return save


@pytest.fixture(scope="session")
def tiny(save_network):
    return save_network("tiny.safetensors")


@pytest.fixture(scope="session")
def same(save_network):
    """Weights that give back almost what they got, in its size."""
    change = {"num_frames": 1, "with_alignment": False}
    return save_network("same.safetensors", scale=1, strength=0.001, **change)


@pytest.fixture
def at_frame(monkeypatch):
    """Function that has something called after so many frames of the next job."""

    def set_action(count, action):
        def track(self, written, first, total):
            del self, first, total
            if count == 0:
                action()
            for index, item in enumerate(written, 1):
                yield item
                if index == count:
                    action()

        monkeypatch.setattr(restore_report.ProgressBar, "track", track)

    return set_action
