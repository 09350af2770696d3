"""Tiles cover the frame once, with margins; automatic ones fit into the memory."""

import dataclasses

import jax
import numpy as np
import pytest

from edvr_jax.config import ModelConfig
from edvr_jax.models import params as params_lib
from edvr_jax.restore import compiled as network_lib
from edvr_jax.restore import tiles
from edvr_jax.restore.tiles import fit_plan, make_plan, shrink

SR = ModelConfig()
DEBLUR = ModelConfig(hr_in=True, scale=1)


@pytest.mark.parametrize("config", [SR, DEBLUR], ids=["sr", "deblur"])
@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [
        ((540, 960), 256, 32),
        ((541, 963), 200, 24),
        ((1, 1), 64, 8),
        ((17, 4000), 100, 40),
        ((300, 300), 300, 10),
        ((301, 305), 300, 10),
        ((97, 61), 48, 16),
        ((200, 200), 100, 31),
    ],
)
def test_tiles_cover_the_frame_once_with_margins(config, size, tile, overlap):
    plan = make_plan(config, size, tile=tile, overlap=overlap)
    multiple = config.size_multiple
    covered = np.zeros(size, int)
    padded = [-(-n // multiple) * multiple for n in size]
    for part in plan.tiles:
        for axis in (0, 1):
            start, side = part.start[axis], plan.tile_size[axis]
            (first, last), outer = part.inner[axis], part.outer[axis]
            assert start % multiple == 0
            assert 0 <= start <= start + side <= padded[axis]
            assert (start + first, start + last) == outer
            assert first >= overlap or start == 0
            assert side - last >= overlap or outer[1] == size[axis]
        (y0, y1), (x0, x1) = part.outer
        covered[y0:y1, x0:x1] += 1
    assert (covered == 1).all()


def test_whole_frame_is_one_tile():
    plan = make_plan(SR, (541, 963), tile=None, overlap=32)
    assert plan.tile_size == (544, 964)
    assert len(plan.tiles) == 1


@pytest.mark.parametrize(
    ("config", "overlap", "least"),
    [(SR, 32, 65), (SR, 31, 65), (SR, 0, 1), (DEBLUR, 31, 65), (DEBLUR, 128, 257)],
)
def test_something_of_the_least_tile_is_kept(config, overlap, least):
    assert tiles.least_tile(config, overlap) == least
    plan = make_plan(config, (600, 600), tile=least, overlap=overlap)
    side = plan.tile_size[0]
    assert side - 2 * overlap >= config.size_multiple > side - 2 * overlap - least


@pytest.mark.parametrize("gigabytes", [1, 4, 24])
def test_automatic_tiles_fit_into_the_free_memory(monkeypatch, gigabytes):
    monkeypatch.setattr(tiles, "free_memory", lambda device: gigabytes * 2**30)
    size = (1080, 1920)
    plan = fit_plan(SR, size, jax.devices()[:1], overlap=32)
    pixels = plan.tile_size[0] * plan.tile_size[1]
    kept = 6 * pixels * len(plan.tiles) * tiles.feature_bytes(SR) * plan.keeps_features
    assert pixels * tiles.working_bytes(SR) + kept <= gigabytes * 2**30
    assert plan.keeps_features == (gigabytes == 24)


def test_small_frames_are_not_cut_and_devices_share_large_ones():
    one, four = jax.devices()[:1], jax.devices()[:4]
    assert len(fit_plan(SR, (64, 64), one, overlap=32).tiles) == 1
    assert len(fit_plan(SR, (270, 480), four, overlap=32).tiles) >= 4


def test_streams_at_once_share_the_memory(monkeypatch):
    monkeypatch.setattr(tiles, "free_memory", lambda device: 24 * 2**30)
    size, device = (1080, 1920), jax.devices()[:1]
    assert fit_plan(SR, size, device, overlap=32).keeps_features
    assert not fit_plan(SR, size, device, overlap=32, num_streams=4).keeps_features


@pytest.mark.parametrize(
    ("config", "overlap", "smallest"),
    [(SR, 32, 96), (SR, 31, 96), (SR, 0, 64), (DEBLUR, 100, 304)],
)
def test_less_memory_until_there_is_no_less(config, overlap, smallest):
    plan = make_plan(config, (540, 960), tile=None, overlap=overlap, batch=4)
    seen = []
    while plan is not None:
        state = (plan.batch, plan.keeps_features, max(plan.tile_size))
        assert state not in seen
        seen.append(state)
        plan = shrink(config, plan)
    assert seen[:3] == [(4, True, 960), (1, True, 960), (1, False, 960)]
    sides = [side for _, _, side in seen]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] == smallest


def test_memory_of_a_control_group(tmp_path):
    assert tiles.free_in_group(tmp_path) > 2**60
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 700\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert tiles.free_in_group(tmp_path) > 2**60
    (tmp_path / "memory.max").write_text("1000\n")
    assert tiles.free_in_group(tmp_path) == 800


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(num_features=32, deformable_groups=4, num_reconstruct_blocks=1),
        ModelConfig(num_extract_blocks=1, num_reconstruct_blocks=1, with_tsa=False),
    ],
    ids=["small", "medium"],
)
def test_estimate_is_what_xla_plans(config):
    params, pyramid, frame = shapes(config)
    model = network_lib.create_model(config)
    program = jax.jit(lambda *x: network_lib.reconstruct(model, *x))
    windows = ((pyramid,) * config.num_frames,)
    planned = program.lower(params, windows, frame).compile().memory_analysis()
    pixels = frame.shape[1] * frame.shape[2]
    # 1.00 to 1.05 with jaxlib 0.10.2 on CPU.
    ratio = tiles.working_bytes(config) / (planned.temp_size_in_bytes / pixels)
    assert 0.9 < ratio < 1.2
    held = sum(level.size * level.dtype.itemsize for level in pyramid) / pixels
    assert held == pytest.approx(tiles.feature_bytes(config))


def shapes(config):
    """Parameters, one frame's features and a frame, as shapes."""
    params = params_lib.unflatten(
        {
            key: jax.ShapeDtypeStruct(shape, np.float32)
            for key, shape in params_lib.shapes(config).items()
        }
    )
    frame = jax.ShapeDtypeStruct((1, 64, 96, 3), np.float32)
    model = network_lib.create_model(config)
    (pyramid,) = jax.eval_shape(
        lambda p, x: network_lib.encode(model, p, x), params, frame
    )
    return params, pyramid, frame


def test_bfloat16_features_take_half(tiny_config):
    half = dataclasses.replace(tiny_config, dtype="bfloat16")
    assert tiles.feature_bytes(half) == tiles.feature_bytes(tiny_config) / 2


def test_memory_of_this_machine_is_found():
    assert 2**20 < tiles.free_memory(jax.devices()[0]) < 2**50
