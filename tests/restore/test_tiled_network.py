"""Tiles, batches, devices, lack of memory: the frames stay the same."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from edvr_jax.config import ModelConfig
from edvr_jax.errors import ResourceError
from edvr_jax.restore import tiles
from edvr_jax.restore.compiled import create_networks
from edvr_jax.restore.restorer import RestoreOptions, Restorer, restore_frames
from edvr_jax.restore.tiled_network import Cancelled, Observer
from tests.messages import check_message, refused

# A tile's margin is larger than what this network sees.
OVERLAP = 32


@pytest.fixture(scope="module")
def network(tiny_config, random_params):
    config = dataclasses.replace(tiny_config, scale=2, with_tsa=False)
    return config, random_params(config, scale=0.05)


def make_frames(count, height=90, width=109):
    shape = (count, height, width, 3)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module", autouse=True)
def two_devices():
    """Two devices only: each one compiles its programs."""
    devices = jax.local_devices()[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: devices)
        yield


@pytest.fixture(scope="module")
def expected(network):
    return list(restore_frames(*network, make_frames(4)))


def test_tiles_on_several_devices_leave_no_seams(network, expected):
    restored = restore_frames(*network, make_frames(4), tile=80, overlap=OVERLAP)
    # Measured 4e-7: another order of sums.
    np.testing.assert_allclose(list(restored), expected, atol=1e-5)


def tiled(side):
    return RestoreOptions(tile=side, overlap=OVERLAP)


def test_observer_follows_the_tiles(network):
    restorer = Restorer(create_networks(*network), tiled(80))
    seen = []
    observer = Observer(lambda index, count: seen.append((index, count)))
    list(restorer(make_frames(1), observer=observer))
    count = seen[0][1]
    assert count > 1
    assert seen == [(index, count) for index in range(count)]


def test_too_narrow_margins_are_seen(network, expected):
    # Else the test above could not see a wrong tile.
    restored = restore_frames(*network, make_frames(4), tile=40, overlap=0)
    assert np.abs(np.stack(list(restored)) - expected).max() > 1e-3


class Memory:
    """Networks on a device with room for so many bytes; counts what fails."""

    def __init__(self, networks, room, *, is_late):
        self.room, self.is_late, self.num_failures = room, is_late, 0
        self.networks = [self._limit(network) for network in networks]

    def _limit(self, network):
        def reconstruct(params, windows, frames):
            self.latest = frames.size
            if frames.size <= self.room:
                return network.reconstruct(params, windows, frames)
            self.num_failures += 1
            if self.is_late:
                return Late()
            raise out_of_memory()

        return dataclasses.replace(network, reconstruct=reconstruct)


def out_of_memory():
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")


class Late:
    """A result that fails when it is fetched, as on an accelerator."""

    def astype(self, dtype):
        return self

    def __array__(self, *args, **kwargs):
        raise out_of_memory()


@pytest.mark.parametrize("is_late", [False, True])
def test_out_of_memory_takes_smaller_tiles_and_loses_no_frame(
    network, expected, is_late, caplog
):
    memory = Memory(create_networks(*network), 100 * 100 * 3, is_late=is_late)
    restorer = Restorer(memory.networks, tiled(200))
    plans = []
    observer = Observer(on_smaller_plan=lambda: plans.extend(restorer.plans))
    restored = list(restorer(make_frames(4), observer=observer))
    np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert memory.num_failures > 0
    for message, facts in zip(
        caplog.messages, (("112x92", "computed again"), ("96x92",)), strict=True
    ):
        check_message(message, "out of memory", *facts)
    assert [(x["tile"], x["keeps_features"]) for x in plans] == [
        (None, False),
        (96, False),
    ]


def test_out_of_memory_with_the_smallest_tiles_is_said(network):
    memory = Memory(create_networks(*network), 0, is_late=False)
    restorer = Restorer(memory.networks, tiled(200))
    with refused("out of memory", "96x92", error=ResourceError):
        list(restorer(make_frames(3)))


def test_other_failures_are_not_taken_for_lack_of_memory(network):
    def reconstruct(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    networks = [
        dataclasses.replace(n, reconstruct=reconstruct)
        for n in create_networks(*network)
    ]
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        list(Restorer(networks)(make_frames(3)))


@pytest.mark.parametrize(
    "changes", [{"batch": 2}, {"keeps_features": False}, {"batch": 3}]
)
@pytest.mark.parametrize("only", [None, {0, 3}])
def test_batches_and_features_that_are_not_kept(network, expected, changes, only):
    restorer = Restorer(create_networks(*network))
    (tiled_network,) = restorer.networks
    tiled_network.plan = dataclasses.replace(
        tiles.make_plan(network[0], (90, 109), tile=None, overlap=0), **changes
    )
    restored = list(restorer(make_frames(4), only=only))
    wanted = [image for i, image in enumerate(expected) if only is None or i in only]
    np.testing.assert_allclose(restored, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "tile"),
    [((90, 109), 80), ((90, 109), None), ((48, 64), "auto"), ((40, 300), 100)],
)
def test_plans_survive_json_and_are_taken_up(network, size, tile):
    first = Restorer(create_networks(*network), tiled(tile))
    first.set_plans(size)
    second = Restorer(create_networks(*network))
    second.set_plans(size, json.loads(json.dumps(first.plans)))
    assert second.networks[0].plan == first.networks[0].plan
    assert second.plans == first.plans


@pytest.mark.parametrize("tile", [64, 10])
def test_tiles_that_are_all_margin(network, tile):
    with refused(f"{tile} pixels", 65):
        Restorer(create_networks(*network), RestoreOptions(tile=tile))


def test_tile_of_a_chain_is_named_in_pixels_of_the_input(network, random_params):
    config = ModelConfig(
        num_features=8, deformable_groups=2, hr_in=True, scale=1, with_predeblur=True
    )
    chain = [*create_networks(*network), *create_networks(config, {})]
    # The second network's margin of 128 is 64 pixels of the input.
    with refused("100 pixels", 129):
        Restorer(chain, RestoreOptions(tile=100))


@pytest.mark.parametrize("options", [{"overlap": -1}, {"tile": "small"}])
def test_impossible_options(options):
    with refused(*options, *options.values()):
        RestoreOptions(**options)


def test_one_restorer_serves_clips_of_several_sizes(network, expected):
    restorer = Restorer(create_networks(*network))
    small = make_frames(3, 20, 24)
    (one, _, _) = restorer(small)
    assert one.shape == (40, 48, 3)
    np.testing.assert_array_equal(list(restorer(make_frames(4))), expected)
    np.testing.assert_array_equal(next(iter(restorer(small))), one)


def test_cancelled_restorer_ends_before_the_next_tile(network):
    restorer, observer = Restorer(create_networks(*network), tiled(80)), Observer()
    frames = restorer(make_frames(4), observer=observer)
    next(frames)
    observer.cancelled.set()
    with pytest.raises(Cancelled):
        next(frames)


@pytest.mark.parametrize("changes", [{}, {"batch": 2}])
@pytest.mark.parametrize("is_late", [False, True])
def test_tiles_in_flight_as_on_an_accelerator(network, expected, changes, is_late):
    # Whole frames do not fit, so that failures come while others wait.
    memory = Memory(create_networks(*network), 100 * 100 * 3, is_late=is_late)
    restorer = Restorer(memory.networks, tiled(200))
    (tiled_network,) = restorer.networks
    tiled_network.num_ahead = 4
    plan = tiled_network.plan_for((90, 109))
    tiled_network.plan = dataclasses.replace(plan, **changes)
    restored = list(restorer(make_frames(4)))
    np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert memory.num_failures > 0
    assert len(tiled_network.plan.tiles) > 1
