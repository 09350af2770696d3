"""The page from its facts: nothing is loaded from elsewhere, and numbers are right."""

import math

import numpy as np
import pytest

from edvr_jax.evaluate.evaluator import ClipScores
from edvr_jax.report import page, pictures, plot
from edvr_jax.report.maps import Maps
from edvr_jax.report.recorder import Box, Record, Shot
from tests.report.pages import PageReader

pytest.importorskip("jinja2")

HOSTILE = '<script>alert("1")</script>'
PSNR = [31.2345, math.inf, 29.8765]


@pytest.fixture(scope="module")
def scores():
    return ClipScores(
        HOSTILE,
        {
            name: [
                {f"{key}_{c}": v for key, v in (("psnr", psnr - less), ("ssim", 0.9))}
                | {"psnr_rgb": 20.0, "ssim_rgb": 0.5}
                for psnr in PSNR
                for c in "y"
            ]
            for name, less in (("model", 0.0), ("bicubic", 1.5))
        },
    )


@pytest.fixture(scope="module")
def record():
    rng = np.random.default_rng(0)
    names = ("model", "bicubic", "truth")
    images = {name: rng.integers(0, 256, (24, 32, 3), np.uint8) for name in names}
    return Record(
        HOSTILE,
        3,
        Box(0, 0, 24, 32, (24, 32)),
        tuple(Shot(index, index, images) for index in (0, 2)),
        10,
        {name: image[:3] for name, image in images.items()},
        rng.integers(0, 256, (3, 6, 8, 3), np.uint8),
        2,
        1,
        Box(0, 0, 6, 8, (6, 8)),
    )


@pytest.fixture(scope="module")
def facts(record, scores):
    maps = Maps(
        {"level 1": np.full((3, 6, 8), 1.25, np.float32)},
        np.full((3, 6, 8), 0.75, np.float32),
    )
    clip = page.clip_facts(record, max_bytes=1e6, maps=maps, scores=scores)
    return {
        "kind": "Evaluation",
        "title": HOSTILE,
        "subtitle": "",
        "tiles": [page.tile("PSNR", "30.00", "dB")],
        "notes": [],
        "clips": [clip],
        "table": [],
        "settings": {"Settings": page.flatten_settings({"crop": 0, "lq": None})},
    }


@pytest.fixture(scope="module")
def reader(facts):
    return PageReader(page.render(facts))


def test_page_needs_nothing_else(reader):
    reader.check_self_contained()


def test_names_are_text(reader):
    assert HOSTILE not in reader.text
    assert reader.tags["script"] == 3  # numbers of the slider and the plot, the program


def test_page_has_every_part(reader):
    headings = "PSNR per frame", "Temporal profile", "Inside the network, frame 2"
    for heading in (*headings, "Settings and versions"):
        assert heading in reader.text
    # Two frames and the profile in three versions each, the window, two rows of maps.
    assert reader.tags["img"] == 2 * 3 + 3 + 3 * 3
    assert all(attributes.get("alt") for attributes in reader.all("img"))
    (slider,) = (a for a in reader.all("input") if a["type"] == "range")
    assert slider["aria-label"]
    assert "1.25 px" in reader.text


def test_numbers_are_those_of_the_scores(reader):
    for value in ("31.23", "∞", "29.88", "29.73", "28.38", "0.9000"):
        assert value in reader.text
    assert "20.00" not in reader.text  # the other channel


def test_clip_without_frames(record, facts):
    empty = page.clip_facts(Record("clip", 0), max_bytes=1e6)
    text = page.render({**facts, "clips": [empty]})
    assert "No frame was restored" in text


def test_part_of_a_frame_is_said_to_be_one(record):
    box = Box(100, 200, 24, 32, (1080, 1920))
    part = Record(**{**vars(record), "box": box, "window_box": box})
    maps = Maps({}, np.zeros((3, 6, 8), np.float32))
    clip = page.clip_facts(part, max_bytes=1e6, maps=maps)
    assert [note for note in clip["notes"] if "32x24" in note and "1920x1080" in note]
    assert clip["profile"]["row"] == 110


def test_images_stay_below_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), np.uint8)
    uris, how = pictures.encode(list(noise), math.inf)
    assert "lossless" in how
    full = sum(map(len, uris))
    for limit in (60e3, 20e3, 5e3):
        uris, how = pictures.encode(list(noise), limit)
        assert "quality" in how
        assert sum(map(len, uris)) <= 4 / 3 * limit + 4 * 40 < full


def test_lines_of_a_plot():
    layout = plot.lines({"model": [30.0, math.inf, 31.0, 32.0]})
    first, second = layout["lines"]["model"]
    assert [point["index"] for point in first + second] == [0, 2, 3]
    assert [point["y"] for point in first + second] == [100, 50, 0]
    assert [point["x"] for point in second] == [66.667, 100]
    assert [text for _, text in layout["ticks"]] == [
        "30.0",
        "30.5",
        "31.0",
        "31.5",
        "32.0",
    ]
    assert plot.lines({"model": [math.inf]}) is None


@pytest.mark.parametrize("values", [[30.0], [30.0, 30.0], [0.0, 1e-9], [5.0, 123.0]])
def test_ticks_enclose_the_values(values):
    ticks = plot.nice_ticks(min(values), max(values))
    assert ticks[0] <= min(values)
    assert ticks[-1] >= max(values)
    assert 2 <= len(ticks) <= 7


def test_magnifier_opens_where_most_changes():
    before = np.zeros((40, 80, 3), np.uint8)
    after = before.copy()
    after[28:33, 58:63] = 200
    assert page.most_changed(before, after) == pytest.approx(
        (60.5 / 80, 30.5 / 40), abs=0.03
    )
