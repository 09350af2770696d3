"""The pages of ``edvr eval`` and ``edvr restore``, read and used in a browser."""

import dataclasses
import json
import re
import shutil
import signal
import sys

import pytest

from edvr_jax.commands.eval import Eval
from edvr_jax.commands.restore import Restore
from edvr_jax.errors import INTERRUPTED
from tests.messages import refused
from tests.report.pages import PageReader

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def network(save_network):
    return save_network("attention.safetensors", with_tsa=True)


@pytest.fixture(scope="module")
def scores(clips, network, tmp_path_factory):
    """The folder of a report, and the scores that were written with it."""
    folder = tmp_path_factory.mktemp("eval")
    Eval(
        gt=clips, weights=network, report=folder / "page", json=folder / "scores.json"
    ).run()
    assert [path.name for path in (folder / "page").iterdir()] == ["index.html"]
    return folder / "page" / "index.html", json.loads(
        (folder / "scores.json").read_text()
    )


@pytest.fixture(scope="module")
def restored(clips, network, tmp_path_factory):
    """The page of a restored clip."""
    folder = tmp_path_factory.mktemp("restore")
    file = folder / "page.html"
    task = Restore(clips / "val", folder / "out", weights=(network,), report_html=file)
    assert task.run() is None
    assert len(list((folder / "out").iterdir())) == 6
    return file


def test_page_of_an_evaluation(scores):
    file, tree = scores
    reader = PageReader(file.read_text("utf-8"))
    reader.check_self_contained()
    assert "Inside the network" in reader.text
    assert "Attention" in reader.text
    for name, clip in tree["clips"].items():
        assert name in reader.text
        for method in ("model", "bicubic"):
            for value in clip["per_frame"][method]["psnr_y"]:
                assert f"<td>{value:.2f}</td>" in reader.text
            assert f"<td>{clip['mean'][method]['psnr_rgb']:.2f}</td>" in reader.text
    for value in tree["mean"]["model"].values():
        assert f"{value:.2f}" in reader.text
    for version in ("edvr jax", "jaxlib"):
        assert version in reader.text
    # Four frames and the profile in three versions, frames seen, five rows of maps.
    assert reader.tags["img"] == 2 * (4 * 3 + 3 + 3 + 5 * 3)


def test_page_of_a_restoration(restored):
    reader = PageReader(restored.read_text("utf-8"))
    reader.check_self_contained()
    assert "PSNR" not in reader.text.partition("<main")[2].partition("<script")[0]
    for text in ("Temporal profile", "Inside the network", "reflection_circle"):
        assert text in reader.text
    # Four frames and the profile in two versions, frames seen, five rows of maps.
    assert reader.tags["img"] == 4 * 2 + 2 + 3 + 5 * 3


def test_page_of_a_resumed_job_says_what_it_lacks(clips, network, tmp_path, at_frame):
    file = tmp_path / "page.html"
    task = Restore(
        clips / "val", tmp_path / "out", weights=(network,), report_html=file
    )
    at_frame(2, lambda: signal.raise_signal(signal.SIGINT))
    assert task.run() == INTERRUPTED
    assert not file.exists()
    at_frame(99, lambda: None)
    assert dataclasses.replace(task, resume=True).run() is None
    text = file.read_text("utf-8")
    earlier = int(re.findall(r"(\d) frames of an earlier run", text)[0])
    assert 2 <= earlier < 6
    shown = [
        int(a["data-index"]) for a in PageReader(text).all("div") if "data-shot" in a
    ]
    assert shown[0] == earlier
    assert shown[-1] == 5


def test_page_replaces_a_page_only(clips, tiny, scores, tmp_path):
    folder = scores[0].parent
    with refused(folder, "--overwrite"):
        Eval(gt=clips, weights=tiny, report=folder).run()
    (tmp_path / "index.html").write_text("my notes")
    with refused(tmp_path / "index.html"):
        Eval(gt=clips, weights=tiny, report=tmp_path, overwrite=True).run()
    for path in (clips, clips / "new"):
        with refused("--report", path):
            Eval(gt=clips, weights=tiny, report=path).run()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "no" / "such"):
        with refused(path):
            Eval(gt=clips, weights=tiny, report=path).run()
    assert (tmp_path / "index.html").read_text() == "my notes"


def test_page_of_a_restoration_replaces_nothing_else(clips, tiny, restored, tmp_path):
    source, target, notes = clips / "val", tmp_path / "out", tmp_path / "notes.html"
    notes.write_text("my notes")
    options = {"weights": (tiny,), "overwrite": True}
    for file in (notes, source / "page.html", target / "page.html", tmp_path):
        with refused(file):
            Restore(source, target, report_html=file, **options).run()
    with refused("--report-html", tmp_path / "new"):
        same = {"report": tmp_path / "new", "report_html": tmp_path / "new"}
        Restore(source, target, **same, **options).run()
    with refused(restored, "--overwrite"):
        Restore(source, target, weights=(tiny,), report_html=restored).run()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.html"]


def test_missing_jinja2_is_named_before_the_work(clips, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with refused("edvr-jax[report]"):
        Eval(gt=clips, weights=tiny, report=tmp_path / "page").run()
    with refused("edvr-jax[report]"):
        page = tmp_path / "page.html"
        Restore(clips / "val", tmp_path / "out", (tiny,), report_html=page).run()
    assert not list(tmp_path.iterdir())


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome is installed")
    with sync_api.sync_playwright() as playwright:
        options = {"executable_path": path, "args": ["--no-sandbox"]}
        opened = playwright.chromium.launch(**options)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """Function that opens a page offline; errors of its program fail the test."""
    contexts, errors = [], []

    def visit(file, **options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: errors.append(message.text))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(file.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert not errors


DESKTOP = {"width": 1280, "height": 900}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


def settle(tab):
    """Wait for the events of the mouse, which come with the next frame."""
    tab.evaluate("new Promise((f) => requestAnimationFrame(() => setTimeout(f, 20)))")


def wipe(tab):
    """Return where the slider is, in percent of the width."""
    settle(tab)
    style = "getComputedStyle(document.querySelector('.stage'))"
    return float(tab.evaluate(f"{style}.getPropertyValue('--wipe')").rstrip("%"))


def magnified(tab):
    """Return the corner of what the magnifier shows, in pixels of the frame."""
    settle(tab)
    data = "document.querySelector('.zooms canvas').dataset"
    return float(tab.evaluate(f"{data}.x")), float(tab.evaluate(f"{data}.y"))


def num_colors(tab):
    """Return how many levels the first magnifier shows."""
    return tab.evaluate(
        """() => {
            const shown = document.querySelector(".zooms canvas");
            const copy = new OffscreenCanvas(shown.width, shown.height);
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(shown, 0, 0);
            const { data } = context.getImageData(0, 0, copy.width, copy.height);
            return new Set(data).size;
        }"""
    )


@pytest.mark.parametrize("kind", ["eval", "restore"])
def test_page_in_a_browser(open_page, scores, restored, kind):
    tab = open_page(scores[0] if kind == "eval" else restored, viewport=DESKTOP)
    tab.wait_for_function("document.querySelector('.zooms canvas').dataset.x")
    loaded = "[...document.images].map((image) => image.naturalWidth > 0)"
    assert all(tab.evaluate(loaded))

    slider = tab.locator(".wipe").first
    slider.focus()
    assert wipe(tab) == 50
    tab.keyboard.press("ArrowRight")
    assert wipe(tab) == 50.5
    tab.keyboard.press("Home")
    assert wipe(tab) == 0
    assert magnified(tab)[0] == 0
    tab.keyboard.press("End")
    right = magnified(tab)
    assert right[0] > 0
    tab.keyboard.press("Shift+ArrowLeft")
    assert wipe(tab) == 100

    box = tab.locator(".stage").first.bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert wipe(tab) == pytest.approx(25, abs=1)
    places = []
    for part in (0.2, 0.8):
        x, y = box["x"] + part * box["width"], box["y"] + part * box["height"]
        tab.mouse.move(x, y)
        places.append(magnified(tab))
    assert places[0][0] < places[1][0]
    assert places[0][1] < places[1][1]

    assert num_colors(tab) > 4
    tab.locator("fieldset", has_text="Zoom").first.locator("label").last.click()
    tab.locator("fieldset", has_text="Frame").locator("label").nth(1).click()
    tab.wait_for_function("document.querySelector('[data-shot=\"0\"]').hidden")
    assert num_colors(tab) > 4


def test_pairs_and_numbers_follow_the_choice(open_page, scores):
    file, tree = scores
    tab = open_page(file, viewport=DESKTOP)
    tab.locator("label", has_text="Restored | Truth").first.click()
    shown = tab.locator(".stage").first.locator(".tag").all_text_contents()
    assert shown == ["Restored", "Truth"]
    psnr = next(iter(tree["clips"].values()))["per_frame"]["model"]["psnr_y"]
    output = tab.locator("figure[data-layer=model] output").first
    assert output.text_content() == f"{psnr[0]:.2f} dB"
    tab.locator("fieldset", has_text="Frame").first.locator("label").last.click()
    tab.wait_for_function("document.querySelector('[data-shot=\"0\"]').hidden")
    assert output.text_content() == f"{psnr[5]:.2f} dB"
    tab.locator(".area").first.hover(position={"x": 1, "y": 100})
    assert f"Restored {psnr[0]:.2f} dB" in tab.locator(".readout").first.text_content()


def test_page_on_a_phone(open_page, scores, restored):
    for file in (scores[0], restored):
        tab = open_page(file, **PHONE)
        tab.wait_for_function("document.querySelector('.zooms canvas').dataset.x")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        before = magnified(tab)
        stage = tab.locator(".stage").first
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        tab.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 5)
        assert wipe(tab) == pytest.approx(90, abs=1)
        assert magnified(tab) != before


def test_page_in_the_dark(open_page, restored):
    colors = {}
    for scheme in ("light", "dark"):
        tab = open_page(restored, viewport=DESKTOP, color_scheme=scheme)
        color = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        colors[scheme] = sum(map(int, color[4:-1].split(",")))
    assert colors["dark"] < 150 < 600 < colors["light"]
