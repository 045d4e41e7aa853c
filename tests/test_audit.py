"""What is wrong with the data: found where it was planted, told with figures, and nothing changed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import probe
from probe.audit import KINDS, audit_path, label_file, read, slug
from probe.audit.labels import hold_out, suspect_labels
from probe.audit.neighbours import find_neighbours
from probe.datasets.labels import read_labels
from probe.workspace.audit import REMOVABLE
from tests.shell import PROJECT, Shell

SAMPLE = PROJECT / "probe" / "datasets" / "samples" / "fashion-sample.npz"
PLANTED = 10
"""Pictures of the test part, a twentieth, of which train has copies."""


def jpeg(picture: Image.Image) -> Image.Image:
    """Compressed once more."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=60)
    return Image.open(stream)


MADE = {
    "crop": lambda picture: picture.crop((1, 1, 27, 27)),
    "jpeg": jpeg,
    "resize": lambda picture: picture.resize((56, 56), Image.Resampling.BICUBIC),
}


@pytest.fixture(scope="module")
def pictures() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of every part 40, 10 and 20 pictures a class, and their classes."""
    found = {}
    with np.load(SAMPLE) as arrays:
        for part, count in (("train", 40), ("val", 10), ("test", 20)):
            labels = arrays[f"{part}_labels"].ravel()
            rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)]))
            found[part] = arrays[f"{part}_images"][rows], labels[rows]
    return found


@pytest.fixture(scope="module")
def folder(pictures: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path_factory: Any) -> Path:
    """A folder of pictures with copies of test in train, an exact copy under another class, and noise."""
    root = tmp_path_factory.mktemp("audit") / "clothes"
    for part, (images, labels) in pictures.items():
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            path = root / part / f"class{label}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    images, labels = pictures["test"]
    for number in range(0, len(images), len(images) // PLANTED):
        for kind, make in MADE.items():
            made = make(Image.fromarray(images[number]))
            made.save(root / "train" / f"class{labels[number]}" / f"{kind}-{number:03}.png")
    same = next((root / "train" / "class0").glob("0*.png"))
    shutil.copy(same, root / "train" / "class1" / "twin.png")
    shutil.copy(same, root / "test" / "class0" / "again.png")
    (root / "test" / "class2" / "broken.png").write_bytes(b"\x89PNG no picture")
    return root


@pytest.fixture(scope="module")
def space(tmp_path_factory: Any) -> probe.Workspace:
    return probe.Workspace(tmp_path_factory.mktemp("home"), quiet=True)


@pytest.fixture(scope="module")
def store(space: probe.Workspace, folder: Path) -> Any:
    return space.extract(folder, backbone="pixels", size=12)


@pytest.fixture(scope="module")
def found(space: probe.Workspace, store: Any) -> Any:
    return space.audit(store)


def test_planted_copies_are_found_and_nothing_else_is(found: Any) -> None:
    planted = {f"{kind}-{number:03}.png" for kind in MADE for number in range(0, 200, 200 // PLANTED)}
    across = [copies for copies in found.near if copies.across]
    hits = {
        Path(picture.id).name
        for copies in across
        for picture in copies.pictures
        if any(other.split == "test" for other in copies.pictures)
    }
    assert len(planted & hits) >= 0.9 * len(planted)
    others = [c for c in found.near if not {Path(p.id).name for p in c.pictures} & planted]
    assert len(others) <= 1
    assert found.rule.compared == "pixels"
    assert found.rule.looked_at > 700
    assert found.rule.alarms <= 2


def test_exact_copies_conflicts_and_unreadable_pictures_are_told_apart(found: Any) -> None:
    (exact,) = found.exact
    assert [Path(picture.id).name for picture in exact.pictures].count("twin.png") == 1
    assert exact.across
    assert exact.labels == ("class0", "class1")
    assert found.several[0].labels == ("class0", "class1")
    assert [unread.id for unread in found.unreadable] == ["test/class2/broken.png"]


def test_every_kind_says_what_it_does_to_the_number(found: Any) -> None:
    effects = {effect.kind: effect for effect in found.effects}
    assert set(effects) >= {*KINDS, "all of these", "unreadable"}
    assert found.whole.n == 201
    assert found.whole.low < found.whole.accuracy < found.whole.high
    near = effects["near copies"]
    assert near.from_train >= 27
    assert near.from_test == 0
    assert near.without.n == near.change.n == found.whole.n
    assert near.without.accuracy - found.whole.accuracy == pytest.approx(near.change.difference)
    assert near.change.low <= near.change.difference <= near.change.high
    wrong = effects["wrong labels"]
    assert wrong.without.n == found.whole.n - wrong.from_test
    assert wrong.change.n == found.whole.n
    assert "upper bound" in wrong.said
    unread = effects["unreadable"]
    assert unread.without.n == found.whole.n + 1
    assert unread.without.accuracy < found.whole.accuracy


def test_the_accuracy_as_it_is_is_that_of_fit(space: probe.Workspace, store: Any, found: Any) -> None:
    run = space.fit("logreg", store)
    assert run.test.accuracy == pytest.approx(found.whole.accuracy, abs=0.006)
    assert run.record.chosen["c"] == found.c


def test_the_record_is_beside_the_store_and_of_one_labelling(
    space: probe.Workspace, store: Any, found: Any, folder: Path, tmp_path: Path
) -> None:
    assert read(store) == found
    assert audit_path(store).parent == store.path.parent
    home = tmp_path / "home"
    shutil.copytree(space.home, home)
    other = probe.Workspace(home, quiet=True)
    copied = other.stores.latest()
    assert read(copied) == found
    path = audit_path(copied)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": "none"'))
    with pytest.raises(probe.ProbeError, match="is not the record of an audit"):
        read(copied)
    path.write_text("[" * 100_000)
    with pytest.raises(probe.ProbeError, match="is not the record of an audit"):
        read(copied)
    assert [listed.name for listed in other.stores] == [copied.name]


def test_tables_and_notebooks_have_what_was_found(found: Any) -> None:
    assert len(found.table("near")) == sum(len(copies.pictures) for copies in found.near)
    assert found.table("effects").column("kind")[0] == "as it is"
    assert len(found.table("labels")) == len(found.labels)
    assert "<table>" in found._repr_html_()
    with pytest.raises(probe.ProbeError, match="table of an audit"):
        found.table("lables")


def test_the_text_fits_eighty_columns(found: Any) -> None:
    lines = found.lines()
    assert max(map(len, lines)) <= 80
    many = [replace(effect, pictures=60_000, from_train=50_000, from_test=10_000) for effect in found.effects]
    assert max(map(len, replace(found, effects=tuple(many)).lines())) <= 80
    text = " ".join(" ".join(lines).split())
    for said in ("as it is", "near copies", "measured on pictures of other classes", "told apart"):
        assert said in text


def test_a_fix_is_a_label_file_and_removes_only_what_is_asked(
    space: probe.Workspace, store: Any, found: Any, folder: Path, tmp_path: Path
) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())
    marked, cleaned = tmp_path / "marked.csv", tmp_path / "cleaned.csv"
    space.audit(store, fix=marked)
    written = label_file(found, store, cleaned, remove=REMOVABLE[:2])
    assert before == sorted((p, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file())
    rows = {row.path: row for row in read_labels(marked)}
    index = store.index
    assert {name: row.split for name, row in rows.items()} == dict(
        zip(index.ids.tolist(), index.splits.tolist(), strict=True)
    )
    assert all(row.label for row in rows.values())
    with marked.open(newline="") as file:
        told = {row["path"]: row for row in csv.DictReader(file) if row["suspect"]}
    assert set(told) == set(found.suspects())
    assert "copy of test/" in told[found.near[0].pictures[-1].id]["why"]
    gone = {row.path for row in read_labels(cleaned) if not row.label}
    assert gone == {name for name, kinds in found.suspects().items() if {k for k, _ in kinds} & {*KINDS[:2]}}
    assert (written.marked, written.removed) == (len(told), len(gone))
    again = space.extract(folder, backbone="pixels", size=12, labels=cleaned)
    assert again.key == store.key
    assert (again.index.labels == -1).sum() == len(gone)
    assert read(again) is None  # it was of another labelling
    space.extract(folder, backbone="pixels", size=12)


def test_a_fix_that_cannot_be_written_is_refused_before_anything_is_computed(
    space: probe.Workspace, store: Any, tmp_path: Path
) -> None:
    there = tmp_path / "labels.csv"
    there.write_text("path,label\n")
    for keywords, said in (
        ({"fix": there}, "exists already"),
        ({"fix": tmp_path / "none" / "labels.csv"}, "there is no folder"),
        ({"remove": ["outliers"]}, "--fix labels.csv"),
        ({"fix": tmp_path / "new.csv", "remove": ["outlier"]}, "outlier"),
        ({"seed": -1}, "seed"),
        ({"memory": "much"}, "is not a size"),
        ({"output": "pixel"}, "did you mean 'pixels'"),
    ):
        with pytest.raises(probe.ProbeError) as stop:
            space.audit(store, **keywords)
        assert said in str(stop.value)
    assert there.read_text() == "path,label\n"


def test_the_kinds_that_can_be_removed_are_those_that_are_found() -> None:
    assert tuple(map(slug, KINDS)) == REMOVABLE


@pytest.fixture(scope="module")
def sample(space: probe.Workspace) -> Any:
    return space.extract("fashion-sample", backbone="pixels", size=8, limit=1500)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.2])
def test_flipped_labels_are_found_at_least_as_well_as_by_cleanlab(sample: Any, rate: float) -> None:
    from cleanlab.filter import find_label_issues

    features, labels = sample.arrays()
    labels, generator = labels.astype(np.intp), np.random.default_rng(3)
    flipped = generator.choice(len(labels), round(rate * len(labels)), replace=False)
    labels[flipped] = (labels[flipped] + generator.integers(1, 10, len(flipped))) % 10
    held = hold_out(features, labels, 10, np.arange(len(labels)), 0.01, seed=0)
    ours = suspect_labels(held.probabilities, labels)
    theirs = np.flatnonzero(find_label_issues(labels, held.probabilities, n_jobs=1))
    hits, their_hits = (len(np.intersect1d(some, flipped)) for some in (ours, theirs))
    assert hits >= their_hits
    assert hits / len(ours) >= their_hits / len(theirs)
    # The rule of its that has the same order: as good at its number of suspects, and no wrong label fewer.
    rule = "low_self_confidence"
    best = np.flatnonzero(find_label_issues(labels, held.probabilities, filter_by=rule, n_jobs=1))
    assert np.isin(ours[: len(best)], flipped).sum() >= np.isin(best, flipped).sum()
    assert len(ours) >= len(best)
    assert hits >= 0.8 * len(flipped)
    first = ours[: len(flipped) // 2]
    assert np.isin(first, flipped).mean() > (0.5 if rate < 0.05 else 0.85)


def test_folds_part_no_group_and_no_copy(sample: Any) -> None:
    """A picture whose copies lie in the fold that it is fitted on would look right under any label."""
    features, labels = sample.arrays()
    features, labels = features[:300], labels[:300].astype(np.intp)
    twice, double = np.concatenate([features, features]), np.concatenate([labels, labels])
    wrong = np.arange(0, 300, 10)
    double[wrong] = double[wrong + 300] = (double[wrong] + 1) % 10
    units = np.tile(np.arange(300), 2)
    apart = suspect_labels(hold_out(twice, double, 10, units, 1.0, 0).probabilities, double)
    parted = suspect_labels(hold_out(twice, double, 10, np.arange(600), 1.0, 0).probabilities, double)
    both = np.concatenate([wrong, wrong + 300])
    assert np.isin(both, apart).sum() > np.isin(both, parted).sum() + 10


def test_features_on_disk_give_the_same_neighbours(sample: Any) -> None:
    from probe.audit.features import read_features

    rows, labels = sample.rows(), sample.index.labels
    near, _ = find_neighbours(read_features(sample, None, rows, 1 << 30), labels, 1 << 30)
    streamed, _ = find_neighbours(read_features(sample, None, rows, 1000), labels, 1000)
    assert (near.rows == streamed.rows).mean() > 0.999
    np.testing.assert_allclose(near.distances, streamed.distances, atol=1e-3)


def small_set(root: Path, pictures: Any, classes: int, parts: dict[str, int]) -> Path:
    """A folder of a few classes, and beside it ``labels.csv`` with their parts."""
    images, labels = pictures["train"]
    lines = ["path,label,split"]
    taken = 0
    for part, count in parts.items():
        for label in range(classes):
            for number, row in enumerate(np.flatnonzero(labels == label)[taken : taken + count]):
                path = root / part / f"class{label}" / f"{part}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[row]).save(path)
                lines.append(f"{path.relative_to(root)},class{label},{part}")
        taken += count
    root.with_suffix(".csv").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize(
    ("classes", "parts", "note"),
    [
        (3, {"train": 12}, "no accuracy: there is no labelled test part"),
        (3, {"test": 12}, "no accuracy: there is no train part"),
        (1, {"train": 12, "test": 6}, "not judged: there is one class"),
    ],
)
def test_what_cannot_be_looked_at_is_a_note(
    pictures: Any, tmp_path: Path, shell: Shell, classes: int, parts: dict[str, int], note: str
) -> None:
    folder = small_set(tmp_path / "set", pictures, classes, parts)
    shell(
        "extract",
        "--backbone",
        "pixels",
        "--size",
        8,
        "--validation",
        0,
        folder,
        "--labels",
        folder.with_suffix(".csv"),
    )
    told = shell.json("audit", "--quiet")
    assert any(note in said for said in told["notes"])
    assert told["whole"] is None
    assert note in " ".join(shell("audit", "--quiet").split())


def test_pictures_without_labels_are_still_compared(pictures: Any, tmp_path: Path, shell: Shell) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    images = pictures["train"][0]
    for number, pixels in enumerate(images[:250]):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    jpeg(Image.fromarray(images[0])).save(folder / "copy.png")
    shell("extract", "--backbone", "pixels", "--size", 12, folder)
    told = shell.json("audit", "--quiet")
    assert told["rule"]["looked_at"] == 0
    assert ["0.png", "copy.png"] in [[p["id"] for p in found["pictures"]] for found in told["near"]]


def test_more_copies_of_a_picture_than_neighbours_do_not_hide_one_another(
    pictures: Any, tmp_path: Path, shell: Shell
) -> None:
    folder = tmp_path / "burst"
    images, labels = pictures["train"]
    for number in np.flatnonzero(labels < 6).tolist():
        path = folder / f"class{labels[number]}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(path)
    first = Image.fromarray(images[np.flatnonzero(labels == 0)[0]])
    for quality in range(70, 95):
        first.save(folder / "class0" / f"burst{quality}.jpg", quality=quality)
    shell("extract", "--backbone", "pixels", "--size", 8, folder)
    sets = [
        [picture["id"] for picture in found["pictures"]] for found in shell.json("audit", "--quiet")["near"]
    ]
    assert max(sum("burst" in name for name in names) for names in sets) >= 23


def test_embeddings_stand_in_for_pictures_that_are_gone(pictures: Any, tmp_path: Path, shell: Shell) -> None:
    folder = small_set(tmp_path / "set", pictures, 3, {"train": 25, "test": 15})
    shell("extract", "--backbone", "pixels", "--size", 8, folder)
    shutil.rmtree(folder)
    told = shell.json("audit", "--quiet")
    assert told["rule"]["compared"] == "embeddings"
    assert any("by embeddings alone" in note for note in told["notes"])
    assert told["whole"]["n"] == 45


def test_a_damaged_store_is_an_error(pictures: Any, tmp_path: Path, shell: Shell) -> None:
    folder = small_set(tmp_path / "set", pictures, 2, {"train": 12, "test": 6})
    made = shell.json("extract", "--backbone", "pixels", "--size", 8, folder)
    files = [path for path in (Path(made["path"]) / "data.zarr" / "features").rglob("*") if path.is_file()]
    chunk = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)
    shell("audit", "--quiet", code=1)
    assert "damaged" in shell.error
    assert not list((tmp_path / "home" / "stores").glob("*.json"))


def test_classes_that_only_their_groups_tell_apart_are_not_told_apart(tmp_path: Path, shell: Shell) -> None:
    """Every group looks like itself and has one of three labels: a new group says nothing of its label."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 6)
    features = generator.standard_normal((60, 12))[groups] + 0.1 * generator.standard_normal((360, 12))
    np.savez(
        tmp_path / "set.npz",
        features=features.astype(np.float32),
        labels=np.array(["a", "b", "c"])[groups % 3],
        groups=np.char.add("g", groups.astype(str)),
        splits=np.where(groups % 5 == 0, "test", "train"),
    )
    shell("stores", "import", tmp_path / "set.npz")
    told = shell.json("audit", "--quiet")
    assert [pair["apart"] for pair in told["pairs"]] == [False, False, False]
    (merged,) = [effect for effect in told["effects"] if effect["kind"] == "classes"]
    assert merged["without"]["accuracy"] == 1
    assert merged["change"]["difference"] > 0.3
    streamed = shell.json("audit", "--quiet", "--memory", "1KB")
    assert streamed["whole"] == pytest.approx(told["whole"], abs=0.02)
    assert streamed["pairs"][0]["share"] == pytest.approx(told["pairs"][0]["share"], abs=0.02)
    # By groups of six: as wide as 12 groups make it, and not 72 pictures.
    assert told["whole"]["high"] - told["whole"]["low"] > 0.3


def test_pictures_that_are_like_no_other_are_outliers(tmp_path: Path, shell: Shell) -> None:
    generator = np.random.default_rng(0)
    features = np.zeros((300, 12), np.float32)
    features[:, :5] = generator.standard_normal((300, 5))
    features[:3, :5], features[[0, 1, 2], [7, 8, 9]] = 0, 3
    labels = np.array(["a", "b"])[(features[:, 0] > 0).astype(int)]
    splits = np.where(np.arange(300) % 3 == 0, "test", "train")
    ids = np.array([f"{row:03}.png" for row in range(300)])
    np.savez(tmp_path / "set.npz", features=features, labels=labels, splits=splits, ids=ids)
    shell("stores", "import", tmp_path / "set.npz")
    told = shell.json("audit", "--quiet")
    assert {found["picture"]["id"] for found in told["outliers"]} == {"000.png", "001.png", "002.png"}
    assert min(found["times"] for found in told["outliers"]) > 1.5
    (effect,) = [effect for effect in told["effects"] if effect["kind"] == "outliers"]
    assert (effect["pictures"], effect["from_train"], effect["from_test"]) == (3, 2, 1)
    assert effect["without"]["n"] == 99


def test_an_audit_that_cannot_be_kept_is_still_told(tmp_path: Path, shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "--size", 4, "--limit", 250, "fashion-sample")
    (store,) = (tmp_path / "home" / "stores").iterdir()
    in_the_way = store.with_name(f"{store.name}.audit.json")
    in_the_way.mkdir()
    assert "as it is" in shell("audit", "--quiet", code=1)
    assert "the audit could not be kept" in shell.error
    in_the_way.rmdir()
    told = shell("audit", "--fix", tmp_path / "labels.csv")
    assert "as it is" in told
    assert "suspects marked, 0 without their label" in shell.error
    assert "label files are read for folders and lists" in shell.error
    assert len(read_labels(tmp_path / "labels.csv")) == 250


def test_maps_are_averaged_and_names_from_outside_are_plain(tmp_path: Path, shell: Shell) -> None:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((3, 4))
    labels = np.repeat(np.arange(3), 60)
    maps = centres[labels][:, None, None] + 0.3 * generator.standard_normal((180, 2, 2, 4))
    names = np.array(["<b>\x1b[31mred", "=1+1", "plain"])[labels]
    splits = np.tile(["train", "train", "test"], 60)
    np.savez(tmp_path / "maps.npz", features=maps.astype(np.float32), labels=names, splits=splits)
    shell("stores", "import", tmp_path / "maps.npz")
    told = shell("audit", "--quiet")
    assert "\x1b" not in told
    record = json.loads(next((tmp_path / "home" / "stores").glob("*.audit.json")).read_text())
    assert record["whole"]["n"] == 60
    assert record["rule"]["compared"] == "embeddings"
    shell("stores", "rm", "latest", "--yes")
    assert not list((tmp_path / "home" / "stores").glob("*.audit.json"))
