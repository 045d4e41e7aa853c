"""``probe report``: what the page says, and what it leaves out."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import probe
from probe.errors import UnknownNameError, UsageError
from probe.fit.rows import source_of
from probe.report.maps import Rows, principal_components
from probe.report.neighbours import nearest
from probe.runs import Run
from tests.reported import CLASSES, EVIL, Reported, make_reported
from tests.shell import Shell


class Reader(HTMLParser):
    """The elements of a page with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._within = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return make_reported(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(made: Reported, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of both runs."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    assert made.space.report(made.first, made.second, output=file) == file
    return file.read_text(encoding="utf-8")


@pytest.fixture
def shell(made: Reported, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(made.space.home, capsys)


def map_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="map-data-1">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def ids_of(coded: list[Any]) -> list[str]:
    """What the page's script makes of the ids."""
    found, before = [], ""
    for shared, rest in zip(coded[::2], coded[1::2], strict=True):
        before = before[:shared] + rest
        found.append(before)
    return found


def test_the_page_has_the_figures_of_the_runs(made: Reported, page: str) -> None:
    text = " ".join(Reader(page).text.split())
    for run in (made.first, made.second):
        scores = run.test
        assert scores is not None
        assert f"{100 * scores.accuracy:.1f} %" in text
        assert f"{100 * scores.accuracy_low:.1f} – {100 * scores.accuracy_high:.1f} %" in text
        assert run.name in text
    compared = made.space.compare(made.first, made.second)
    low, high = compared.interval
    assert f"{100 * compared.difference:+.1f} points" in text
    assert f"{100 * low:+.1f} – {100 * high:+.1f}" in text
    for heading in ("Side by side", "Confusion matrix", "Reliability", "Path of C", "Few-shot curve"):
        assert heading in text
    assert "1 image" in text  # the one that could not be read
    both_wrong = int((~made.first.predictions.correct & ~made.second.predictions.correct).sum())
    assert f"both are wrong on {both_wrong}" in text


def test_the_confusion_matrix_adds_up_to_the_test_set(made: Reported, page: str) -> None:
    tables = re.findall(r'<table class="matrix" data-n="(\d+)">(.*?)</table>', page, re.S)
    assert len(tables) == 2
    for run, (total, table) in zip((made.first, made.second), tables, strict=True):
        body = table.partition("<tbody>")[2].partition("</tbody>")[0]
        cells = [int(n) for n in re.findall(r"<td[^>]*title[^>]*>(\d+)<", body)]
        assert run.test is not None
        assert sum(cells) == int(total) == run.test.n


def test_of_many_classes_the_pairs_that_are_confused_add_up(made: Reported, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    shades = np.random.default_rng(0).integers(0, 255, (45, 5, 4, 4, 3), dtype=np.uint8)
    for label, pictures in enumerate(shades):
        (tmp_path / "many" / f"class{label}").mkdir()
        for number, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(tmp_path / "many" / f"class{label}" / f"{number}.png")
    run = made.space.fit("majority", made.space.extract(tmp_path / "many", backbone="pixels", size=2))
    page = made.space.report(run, output=tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'class="matrix"' not in page
    total, right, more = map(int, re.findall(r'data-n="(\d+)" data-right="(\d+)" data-more="(\d+)"', page)[0])
    table = page.partition('<table class="pairs"')[2].partition("</table>")[0]
    counts = [int(n) for n in re.findall(r'<td class="number">(\d+)</td>', table)]
    assert run.test is not None
    assert right + sum(counts) + more == total == run.test.n
    assert right == round(run.test.accuracy * run.test.n)


def test_every_image_that_was_read_is_a_point(made: Reported, page: str) -> None:
    data, index = map_data(page), made.store.index
    rows = made.store.rows()
    assert len(rows) == 120
    assert data["classNames"] == index.classes.tolist()
    ids = ids_of(data["ids"])
    assert ids == index.ids[rows].tolist()
    assert len(unpacked(data["x"], "<f4")) == len(unpacked(data["y"], "<f4")) == len(rows)
    assert unpacked(data["classes"], "<u2").tolist() == index.labels[rows].tolist()
    assert [data["splitNames"][n] for n in unpacked(data["splits"], "u1")] == index.splits[rows].tolist()
    assert unpacked(data["tiles"], "<u4").tolist() == list(range(len(rows)))
    assert data["sheets"][0].startswith("data:image/webp;base64,")
    called = unpacked(data["runs"][0]["called"], "<u2")
    predictions = made.first.predictions
    there = dict(zip(predictions.ids.tolist(), predictions.predicted.tolist(), strict=True))
    assert called.tolist() == [there.get(name, 0xFFFF) for name in ids]


def test_what_comes_from_outside_is_text_and_nothing_else(page: str) -> None:
    reader = Reader(page)
    assert f"{EVIL}" in reader.text
    assert CLASSES[1] in reader.text
    assert "<img src=x onerror=alert(2)>" in reader.text
    assert len(reader.all("script")) == 3  # the map's data, plotly and the page's own
    assert all(image["src"] != "x" and "onerror" not in image for image in reader.all("img"))
    assert "<script>alert(1)" not in page
    assert not [a for _, attributes in reader.elements for a in attributes if a.startswith("on")]


def test_what_an_audit_found_is_in_the_page(made: Reported, page: str, tmp_path: Path) -> None:
    assert f"<code>probe audit {made.store.name}</code>" in page
    audit = made.space.audit(made.store)
    reader = Reader(made.space.report(made.store, output=tmp_path / "r.html").read_text(encoding="utf-8"))
    text = " ".join(reader.text.split())
    assert "What the audit found" in text
    assert audit.whole is not None
    assert f"{100 * audit.whole.accuracy:.1f} % ({100 * audit.whole.low:.1f} – " in text
    for kind, found in (("Wrong labels", audit.labels), ("Outliers", audit.outliers)):
        assert (f"{kind}: {len(found)}" in text) == bool(found)
    assert "the image cannot be" in text or audit.unreadable[0].reason in text
    assert "probe audit" not in text


def test_the_page_asks_for_nothing_and_allows_no_request(page: str) -> None:
    reader = Reader(page)
    (policy,) = [m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert not reader.all("link")
    for tag in ("img", "script", "iframe", "image"):
        for element in reader.all(tag):
            source = element.get("src") or element.get("xlink:href") or "data:"
            assert source.startswith("data:"), source


def test_the_commands_of_the_page_make_it_again(made: Reported, shell: Shell, page: str) -> None:
    lines = re.findall(r"<pre tabindex=.0.><code>(probe .*?)</code>", page)
    reader = Reader("".join(f"<p>{line}</p>\n" for line in lines))
    extract, fit, *_, compare = reader.text.strip().split("\n")
    words = shlex.split(extract)
    assert "reused, nothing computed" in shell(*words[1:], code=4)  # 4: one cannot be read
    assert shell.json(*shlex.split(fit)[1:], "--reuse", "--quiet")["run"] == made.first.name
    assert shlex.split(compare) == ["probe", "compare", made.first.name, made.second.name]


def test_without_its_pictures_a_page_says_so(made: Reported, shell: Shell, tmp_path: Path) -> None:
    away = made.pictures.rename(made.pictures.with_name("away"))
    try:
        told = shell("report", "-o", tmp_path / "r.html", made.first.name)
    finally:
        away.rename(made.pictures)
    assert told == f"report    {tmp_path / 'r.html'}\n"
    assert "no pictures, since there is no file or folder" in shell.error
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "no pictures, since" in page
    assert not Reader(page).all("img")
    assert len(ids_of(map_data(page)["ids"])) == 120


def test_without_its_store_a_run_is_shown_without_a_map(made: Reported, shell: Shell, tmp_path: Path) -> None:
    home = tmp_path / "other"
    shutil.copytree(made.first.path, home / "runs" / made.first.name)
    shell.home = home
    shell("report", "-o", tmp_path / "r.html")
    assert f"run {made.first.name} (the newest)" in shell.error
    assert "no map and no pictures, since there is no store" in shell.error
    reader = Reader((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert not reader.all("script")
    assert "Confusion matrix" in reader.text


def test_a_store_alone_is_a_map_and_a_card(made: Reported, shell: Shell, tmp_path: Path) -> None:
    record = shell.json("report", "-o", tmp_path / "r.html", made.store.name, "--title", "just looking")
    assert record == {"file": str(tmp_path / "r.html"), "bytes": (tmp_path / "r.html").stat().st_size}
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h1>just looking</h1>" in page
    assert "Confusion matrix" not in page
    assert map_data(page)["runs"] == []
    assert "Images by class and split" in page


def test_a_store_of_which_nothing_was_read_has_a_card_and_no_map(
    made: Reported, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    for number in range(3):
        (tmp_path / "broken" / f"{number}.png").write_bytes(b"\x89PNG and no more")
    store = made.space.extract(tmp_path / "broken", backbone="pixels", size=4)
    page = made.space.report(store, output=tmp_path / "r.html").read_text(encoding="utf-8")
    assert "could not be read" in page
    assert not Reader(page).all("script")
    shell("plot", "map", store.name, "-o", tmp_path / "map.png", code=1)
    assert f"no image of {store.name} was read" in shell.error


WRONG = {
    "another ending": (["-o", "page.pdf"], "a name that ends in .html"),
    "no folder": (["-o", "nowhere/page.html"], "there is no folder nowhere"),
    "nobody": (["nobody"], "no run or store called 'nobody'"),
    "twice": (["latest", "latest"], "something is named twice"),
    "no map": (["--map", "umap"], "--map"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_written_is_said_first(
    shell: Shell, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shell("report", *words, code=2)
    assert said in shell.error
    assert not list(tmp_path.iterdir())


def test_a_map_may_be_made_by_opentsne(made: Reported, tmp_path: Path) -> None:
    drawn = made.space.plot("map", made.store, output=tmp_path / "map.svg", map="opentsne").read_text()
    assert "t-SNE 1 (no unit)" in drawn
    assert "plain" in drawn


def test_principal_components_are_those_of_scikit_learn(made: Reported) -> None:
    from sklearn.decomposition import PCA

    source = source_of(made.store, (), made.store.rows(), range(1))
    found = principal_components(Rows(source), 3)
    other = PCA(3).fit(source[:])
    assert np.allclose(found.shares, other.explained_variance_ratio_, rtol=1e-3)
    theirs = other.transform(source[:])
    for ours, column in zip(found.scores.T, theirs.T, strict=True):
        assert abs(np.corrcoef(ours, column)[0, 1]) > 0.9999


def test_neighbours_of_mistakes_are_images_that_were_trained_on(made: Reported, tmp_path: Path) -> None:
    lines = (made.pictures.parent / "labels.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.rsplit(",", 1)[0] + "," if number % 4 else line for number, line in enumerate(lines[1:])]
    (tmp_path / "labels.csv").write_text("\n".join([lines[0], *rows]), encoding="utf-8")
    space = probe.Workspace(tmp_path / "home", quiet=True)
    store = space.extract(made.pictures, backbone="pixels", size=4, labels=tmp_path / "labels.csv")
    run = space.fit("majority", store)
    text = space.report(run, output=tmp_path / "x.html").read_text(encoding="utf-8")
    mistakes = text.split("most confident mistakes</h")[1].partition("<h2")[0]
    assert "cosine" in mistakes
    assert "no label" not in mistakes


def test_the_nearest_training_images_are_found(made: Reported) -> None:
    rows = made.store.rows("train")
    points = source_of(made.store, (), rows, range(1))
    queries = source_of(made.store, (), rows[[3, 20]], range(1))
    places, cosines = nearest(points, queries, 2)
    assert places[:, 0].tolist() == [3, 20]
    assert np.allclose(cosines[:, 0], 1)
    features = points[:]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(cosines[:, 1], np.sort(unit[[3, 20]] @ unit.T, axis=1)[:, -2], atol=1e-6)


FIGURES = {
    "confusion": ("predicted class", "true class", "share of the true class (%)"),
    "map": ("component 1 (", "of the variance)"),
    "path": ("C (inverse strength of the penalty)", "accuracy, validation (%)"),
    "few-shot": ("training images", "test accuracy (%)"),
    "reliability": ("confidence (%)", "test accuracy (%)", "at temperature"),
    "per-class": ("right, of the test images of the class (%)", "class"),
    "samples": ("plain",),
}


@pytest.mark.parametrize("what", FIGURES)
def test_single_figures_have_units_on_their_axes(
    made: Reported, shell: Shell, what: str, tmp_path: Path
) -> None:
    file = tmp_path / "figure.svg"
    assert shell("plot", what, made.first.name, "-o", file, "--title", "a title") == f"{file}\n"
    text = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text()))
    for words in (*FIGURES[what], "a title"):
        assert words in text


def test_figures_of_several_runs_and_of_stores(made: Reported, tmp_path: Path) -> None:
    space, first, second = made.space, made.first, made.second
    for suffix, begins in ((".png", b"\x89PNG"), (".pdf", b"%PDF")):
        file = space.plot("reliability", first, second, output=tmp_path / f"both{suffix}")
        assert file.read_bytes().startswith(begins)
    for colour, group in (("split", "train"), ("correct", "wrong")):
        drawn = space.plot("map", first, output=tmp_path / f"{colour}.svg", colour=colour).read_text()
        assert group in drawn
    assert space.plot("samples", made.store, output=tmp_path / "s.png").is_file()


NO_FIGURE = {
    "no path": (["path", "centroid"], "did not try several values"),
    "no curve": (["few-shot", "centroid"], "has no few-shot curve"),
    "two matrices": (["confusion", "latest", "latest:2"], "this figure is of one run"),
    "of a store": (["path", "pictures"], "a store has no path"),
    "correct of a store": (["map", "pictures", "--colour", "correct"], "this figure is of one run"),
    "another ending": (["confusion", "-o", "x.jpg"], ".png, .svg, .pdf"),
}


@pytest.mark.parametrize(("words", "said"), NO_FIGURE.values(), ids=NO_FIGURE.keys())
def test_what_has_no_such_figure_says_so(
    shell: Shell, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shell("plot", *words, code=2)
    assert said in shell.error
    assert not list(tmp_path.iterdir())


def test_a_workspace_refuses_what_the_commands_refuse(made: Reported) -> None:
    with pytest.raises(UnknownNameError, match="no figure called 'confusions'"):
        made.space.plot("confusions")
    with pytest.raises(UsageError, match=r"ends in \.html"):
        made.space.report(output="x.txt")
    assert isinstance(made.first, Run)
