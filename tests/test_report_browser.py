"""The page of ``probe report`` in a real browser: it draws, it answers, and nothing leaves it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reported import CLASSES, EVIL, Reported, make_reported

CHROMIUM = shutil.which("chromium")
TO_THE_MAP = "document.querySelector('.plot').scrollIntoView({behavior: 'instant', block: 'center'})"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return make_reported(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def file(made: Reported) -> Path:
    return made.space.report(made.first, made.second, output=made.pictures.with_name("report.html"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium, so the page of probe report is not looked at (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        # Without a GPU the map is drawn by the processor.
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        started = player.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


class Tab:
    """A page of the browser; `faults` are what its console calls errors, `requests` what it asked for."""

    def __init__(self, browser: Any, file: Path, **how: Any) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(**how)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(f"a dialog: {dialog.message}"))
        self.page.on("console", lambda said: said.type == "error" and self.faults.append(said.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.address = file.as_uri()

    def ready(self) -> Tab:
        self.page.wait_for_selector(".map[data-ready=yes]")
        return self


@pytest.fixture(scope="module")
def tab(browser: Any, file: Path) -> Iterator[Tab]:
    found = Tab(browser, file, viewport={"width": 1200, "height": 900}).ready()
    yield found
    # Whatever was done on it.
    assert found.faults == []
    assert [url for url in found.requests if not url.startswith(("data:", "blob:"))] == [found.address]


def place_of(tab: Tab, name: str) -> tuple[float, float]:
    """Where on the screen the point of an image lies."""
    tab.page.evaluate(
        "document.querySelector('.plot').scrollIntoView({behavior: 'instant', block: 'center'})"
    )
    return tuple(
        tab.page.evaluate(
            """(name) => {
                const canvas = document.querySelector(".canvas"), layout = canvas._fullLayout;
                const box = canvas.querySelector(".nsewdrag").getBoundingClientRect();
                const data = JSON.parse(document.getElementById("map-data-1").textContent);
                let id = "", point = -1;
                for (let n = 0; n < data.ids.length; n += 2) {
                    id = id.slice(0, data.ids[n]) + data.ids[n + 1];
                    if (id === name) point = n / 2;
                }
                const read = (text) => new Float32Array(
                    Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer)[point];
                return [
                    box.left + layout.xaxis.d2p(read(data.x)),
                    box.top + layout.yaxis.d2p(read(data.y)),
                ];
            }""",
            name,
        )
    )


def ids(tab: Tab) -> list[str]:
    text = tab.page.input_value("[name=ids]")
    return text.split("\n") if text else []


def test_there_is_a_point_for_every_image_and_it_is_drawn(tab: Tab, made: Reported) -> None:
    drawn = "document.querySelector('.canvas').data"
    assert tab.page.evaluate(f"{drawn}.reduce((sum, trace) => sum + trace.x.length, 0)") == 120
    assert len(made.store.rows()) == 120
    assert "WebGL is not supported" not in tab.page.inner_text(".canvas")
    counts = tab.page.locator(".legend li").all_inner_texts()
    assert [text.split("\n")[0] for text in counts] == sorted(CLASSES)
    assert sum(int(text.split("\n")[1]) for text in counts) == 120


def test_the_pointer_shows_a_picture_and_what_it_is(tab: Tab, made: Reported) -> None:
    name = str(made.store.index.ids[made.store.rows("test")[0]])
    x, y = place_of(tab, name)
    tab.page.mouse.move(x - 30, y - 30)
    tab.page.mouse.move(x, y, steps=4)
    hover = tab.page.locator(".hover")
    hover.wait_for(state="visible")
    shown = hover.inner_text()
    assert ".png" in shown
    assert "called" in shown or "train" in shown or "val" in shown
    tile = hover.locator(".tile")
    assert tile.evaluate("(tile) => getComputedStyle(tile).backgroundImage").startswith(
        'url("data:image/webp'
    )


def test_a_lasso_gives_the_ids_of_what_it_goes_around(tab: Tab, made: Reported) -> None:
    tab.page.evaluate(
        "document.querySelector('.plot').scrollIntoView({behavior: 'instant', block: 'center'})"
    )
    box = tab.page.locator(".nsewdrag").bounding_box()
    left, top = box["x"] + 3, box["y"] + 3
    right, bottom = box["x"] + box["width"] - 3, box["y"] + box["height"] - 3
    tab.page.mouse.move(left, top)
    tab.page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 5)):
        tab.page.mouse.move(x, y, steps=3)
    tab.page.mouse.up()
    tab.page.locator(".chosen").wait_for(state="visible")
    assert ids(tab) == made.store.index.ids[made.store.rows()].tolist()
    assert "120 images chosen." in tab.page.inner_text(".about")
    assert tab.page.locator(".picked .tile").count() == 60


def test_colours_follow_what_is_asked_for(tab: Tab) -> None:
    tab.page.select_option("[name=colour]", "correctness: logreg")
    tab.page.wait_for_function("document.querySelector('.legend').innerText.includes('wrong')")
    tab.page.select_option("[name=colour]", "split")
    tab.page.wait_for_function("document.querySelector('.legend').innerText.includes('train')")
    total = "document.querySelector('.canvas').data.reduce((sum, trace) => sum + trace.x.length, 0)"
    assert tab.page.evaluate(total) == 120


def test_the_keyboard_alone_reaches_everything(tab: Tab, made: Reported) -> None:
    page = tab.page
    wanted = page.evaluate(
        """() => [...document.querySelectorAll(
                "a[href], button, select, input, textarea, summary, [tabindex]")]
            .filter((one) => one.checkVisibility() && one.tabIndex >= 0 && !one.closest("svg")).length"""
    )
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0); window.reached = new Set()")
    page.evaluate("document.addEventListener('focusin', (event) => window.reached.add(event.target))")
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
    assert page.evaluate("window.reached.size") >= wanted
    # The form finds what a lasso would.
    run, test = made.first, made.first.predictions
    page.focus("[name=outcome]")
    page.select_option("[name=outcome]", "0:1")
    page.focus(".filters button")
    page.keyboard.press("Enter")
    wrong = test.ids[~test.correct].tolist()
    assert run.test is not None
    assert sorted(ids(tab)) == sorted(wrong)
    page.focus(".picked button")
    told = page.inner_text(".detail")
    assert ids(tab)[0] in told
    assert "wrong" in told
    outline = page.evaluate("getComputedStyle(document.querySelector('.picked button')).outlineStyle")
    assert outline == "solid"


def test_the_matrix_adds_up_as_it_is_shown(tab: Tab, made: Reported) -> None:
    sums = tab.page.evaluate(
        """() => [...document.querySelectorAll(".matrix")].map((table) =>
            [...table.querySelectorAll("tbody td:not(.sum)")]
                .reduce((sum, cell) => sum + (+cell.innerText || 0), 0))"""
    )
    assert sums == [len(made.first.predictions.ids)] * 2


def test_names_that_look_like_code_do_nothing(tab: Tab) -> None:
    assert EVIL in tab.page.inner_text("#run-1 .classes")
    assert tab.page.evaluate("document.querySelectorAll('script:not([type])').length") == 2
    assert tab.page.evaluate("[...document.images].every((image) => image.src.startsWith('data:'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_scrolls_down_and_not_aside(browser: Any, file: Path, scheme: str) -> None:
    size = {"width": 390, "height": 844}
    found = Tab(browser, file, viewport=size, color_scheme=scheme).ready()
    assert found.page.evaluate("document.documentElement.scrollWidth") == 390
    paper = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert found.faults == []
    found.page.close()


def test_without_scripts_everything_but_the_lasso_is_there(browser: Any, file: Path) -> None:
    found = Tab(browser, file, java_script_enabled=False)
    text = found.page.inner_text("body")
    for heading in ("Results", "Side by side", "Map of the embeddings", "Confusion matrix", "Do it again"):
        assert heading in text
    assert found.page.locator(".still svg").is_visible()
    assert not found.page.locator(".live").is_visible()
    assert found.page.locator(".mistake img").first.is_visible()
    found.page.close()
