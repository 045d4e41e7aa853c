"""Groups of a label file: kept with the store, never parted by folds and draws, and in every interval."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedGroupKFold

from probe.config import Home
from probe.errors import FitError
from probe.heads.draws import few_shot, fraction, stratified_folds
from probe.heads.head import Samples
from probe.heads.logreg import LogregOptions
from probe.heads.logreg import fit as fit_logreg
from probe.heads.ridge import RidgeOptions, RidgePath
from probe.heads.ridge import fit as fit_ridge
from probe.heads.saving import load_head
from probe.stats.intervals import wilson
from probe.store import Index, LocalFiles, find_store
from probe.store.index import read_index, write_index
from probe.units import kept_together
from tests.shell import Shell

PLAIN = Index(
    np.array(["a", "b", "c"]),
    np.array(["0" * 64, "1" * 64, "2" * 64]),
    np.array([0, 1, -1], np.int32),
    np.array(["train", "test", ""]),
    np.array(["cat", "dog"]),
)
PLAIN_HASH = "ccd3716bf5c873cead187b4ab91e16753c19d60cc44ddea3f15cddcf902e5cfa"


def write_labels(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def newest_index(shell: Shell) -> Index:
    return find_store(Home(shell.home), None).index


def listed(index: Index) -> list[str] | None:
    return None if index.groups is None else index.groups.tolist()


def test_units_join_content_and_groups_through_any_chain() -> None:
    hashes = np.array(["a", "b", "b", "c", "d", "", "", "e"])
    groups = np.array(["1", "1", "", "2", "", "", "3", "3"])
    assert kept_together(hashes).tolist() == [0, 1, 1, 2, 3, 4, 5, 6]
    assert kept_together(hashes, groups).tolist() == [0, 0, 0, 1, 2, 3, 4, 4]
    chain = np.array([str(row // 2) for row in range(100)])
    links = np.array(["", *(f"g{row // 2}" for row in range(98)), ""])
    assert set(kept_together(chain, links).tolist()) == {0}
    assert kept_together(np.array([], "<U1"), np.array([], "<U1")).tolist() == []


def test_an_index_without_groups_keeps_its_hash_and_has_no_column_of_them(tmp_path: Path) -> None:
    assert PLAIN.hash == PLAIN_HASH
    files = LocalFiles(tmp_path)
    write_index(files, PLAIN)
    with np.load(io.BytesIO(files.read(f"index/{PLAIN_HASH}.npz", 1 << 20))) as arrays:
        assert not [name for name in arrays if name.startswith("groups")]
    assert read_index(files, PLAIN_HASH, 3).groups is None


def test_an_index_with_groups_is_another_and_keeps_them(tmp_path: Path) -> None:
    grouped = Index(
        PLAIN.ids, PLAIN.hashes, PLAIN.labels, PLAIN.splits, PLAIN.classes, np.array(["p", "p", ""])
    )
    assert grouped.hash != PLAIN.hash
    files = LocalFiles(tmp_path)
    read = read_index(files, write_index(files, grouped), 3)
    assert listed(read) == ["p", "p", ""]
    assert grouped.parted_groups() == {"train_test": 1}
    assert grouped.take(np.array([2])).groups is None


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures, in groups of two in another label file of the same labels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    rows = [f"{number:02}.png,{number % 2}" for number in range(12)]
    write_labels(tmp_path / "plain.csv", "path,label", rows)
    write_labels(
        tmp_path / "grouped.csv", "path,label,group", [f"{row},g{n // 4}" for n, row in enumerate(rows)]
    )
    return folder


def test_relabelling_with_groups_is_a_new_index_of_the_same_store(shell: Shell, pictures: Path) -> None:
    plain, grouped = pictures.parent / "plain.csv", pictures.parent / "grouped.csv"
    first = shell.json("extract", "--backbone", "pixels", pictures, "--labels", plain)
    before = shell.json("stores", "show")
    again = shell.json("extract", "--backbone", "pixels", pictures, "--labels", grouped)
    after = shell.json("stores", "show")
    assert (again["store"], again["reused"]) == (first["store"], True)
    assert (before["groups"], after["groups"], after["parted_groups"]) == (0, 3, {})
    assert before["index"] != after["index"]
    assert "groups     3" in shell("stores", "show")
    assert listed(newest_index(shell)) == [f"g{n // 4}" for n in range(12)]
    assert shell.json("data", "check", pictures, "--labels", grouped)["groups"] == 3


def test_groups_that_a_split_of_the_user_parts_are_said(shell: Shell, pictures: Path) -> None:
    splits = ["train", "val", "test"]
    rows = [f"{n:02}.png,{n % 2},{splits[n % 3]},g{n // 4}" for n in range(12)]
    labels = write_labels(pictures.parent / "parted.csv", "path,label,split,group", rows)
    shell("extract", "--backbone", "pixels", pictures, "--labels", labels)
    assert "3 groups in both train and test" in shell.error
    assert "groups     3, parted: 3 in both train and val, 3 in both train and test" in shell(
        "stores", "show"
    )


@pytest.mark.parametrize("file_format", ["npz", "npy", "parquet"])
def test_groups_go_out_and_come_in_with_the_embeddings(
    shell: Shell, tmp_path: Path, file_format: str
) -> None:
    groups = np.array([f"p{row // 3}" if row % 9 else "" for row in range(60)])
    features = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(tmp_path / "in.npz", features=features, labels=np.arange(60) % 2, groups=groups)
    shell("stores", "import", tmp_path / "in.npz")
    index = newest_index(shell)
    assert listed(index) == groups.tolist()
    assert index.parted_groups() == {}
    out = tmp_path / f"out.{file_format}"
    shell("stores", "export", "--output-file", out)
    shell.home = tmp_path / "other"
    labels = ["--labels", tmp_path / "out.labels.npz"] if file_format == "npy" else []
    shell("stores", "import", out, *labels)
    assert newest_index(shell).hash == index.hash


@pytest.mark.parametrize("named", [False, True], ids=["in order", "by id"])
def test_other_labels_leave_the_groups_of_the_embeddings(shell: Shell, tmp_path: Path, named: bool) -> None:
    features, labels, groups = near_copies(0, groups=20)
    ids = np.array([f"row {number}" for number in range(len(labels))])
    np.savez(tmp_path / "near.npz", features=features, labels=labels, groups=groups, ids=ids)
    rows = [
        f"{name if named else ''},{'ab'[label]}".lstrip(",") for name, label in zip(ids, labels, strict=True)
    ]
    csv = write_labels(tmp_path / "new.csv", "id,label" if named else "label", rows)
    shell("stores", "import", tmp_path / "near.npz", "--labels", csv)
    assert "the groups are those of" in shell.error
    index = newest_index(shell)
    assert index.classes.tolist() == ["a", "b"]
    assert listed(index) == groups.tolist()
    assert index.parted_groups() == {}
    own = [f"{row},clinic {number % 4}" for number, row in enumerate(rows)]
    csv = write_labels(tmp_path / "own.csv", "id,label,group" if named else "label,group", own)
    shell("stores", "import", tmp_path / "near.npz", "--labels", csv)
    assert set(listed(newest_index(shell)) or ()) == {f"clinic {number}" for number in range(4)}


def test_groups_of_a_parquet_may_be_numbers_with_gaps(shell: Shell, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {
        "f0": np.arange(8, dtype=np.float32),
        "label": [0, 1] * 4,
        "group": [7, 7, None, 8, 8, None, None, 9],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    shell("stores", "import", tmp_path / "x.parquet")
    assert listed(newest_index(shell)) == ["7", "7", "", "8", "8", "", "", "9"]


GROUPS, EACH, D = 150, 8, 64


def near_copies(seed: int, groups: int = GROUPS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, D), labels and groups: every group is a point of its own and eight near-copies of it."""
    generator = np.random.default_rng(seed)
    classes = np.arange(groups) % 2
    points = generator.normal(size=(groups, D)) + 0.8 * np.where(classes, 1, -1)[:, None] * np.eye(1, D)
    rows = np.repeat(points, EACH, axis=0) + 0.02 * generator.normal(size=(groups * EACH, D))
    names = np.array([f"patient {number // EACH}" for number in range(groups * EACH)])
    return rows.astype(np.float32), np.repeat(classes, EACH).astype(np.int32), names


@pytest.fixture
def grouped(shell: Shell, tmp_path: Path) -> Shell:
    """A home with a store of 150 groups of eight near-copies."""
    features, labels, groups = near_copies(0)
    np.savez(tmp_path / "near.npz", features=features, labels=labels, groups=groups)
    shell("stores", "import", tmp_path / "near.npz", "--split", "0.5,0.25,0.25")
    return shell


def test_cross_validation_of_near_copies_says_what_new_groups_will_show(grouped: Shell) -> None:
    found = grouped.json("fit", "logreg", "--cv", "5")
    judged = [row for row in found["path"] if "cv_accuracy" in row]  # by all folds, and not the first alone
    best = max(judged, key=lambda row: (row["cv_accuracy"], -row["cv_log_loss"]))
    features, labels, _ = near_copies(1, groups=2000)
    unseen = (load_head(Path(grouped.home) / "runs" / found["run"]).predict_proba(features)).argmax(1)
    # By row, copies of every held-out row are trained on: 1.0 at C = 100.
    assert best["cv_accuracy"] == pytest.approx((unseen == labels).mean(), abs=0.06)
    assert found["chosen"]["c"] < 0.1
    by_validation = grouped.json("fit", "logreg")
    assert by_validation["val"]["accuracy"] == pytest.approx(best["cv_accuracy"], abs=0.12)


def test_exact_copies_share_a_fold_without_any_group(shell: Shell, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(size=(60, 40)), 4, axis=0).astype(np.float32)
    labels = np.repeat(generator.integers(0, 2, 60), 4)
    np.savez(tmp_path / "copies.npz", features=features, labels=labels)
    shell("stores", "import", tmp_path / "copies.npz")
    found = shell.json("fit", "logreg", "--cv", "5")
    assert max(row.get("cv_accuracy", row.get("first_fold_accuracy")) for row in found["path"]) < 0.8
    assert max(row["cv_accuracy"] for row in found["path"] if "cv_accuracy" in row) < 0.75


def test_fit_says_over_how_many_groups_the_interval_is(grouped: Shell) -> None:
    text = grouped("fit", "centroid")
    found = grouped.json("runs", "show", "latest")
    test = found["test"]
    assert (test["groups"], test["interval"]) == (test["n"] // EACH, "clustered by group")
    assert f"({test['n']:,} images in {test['groups']} groups)" in " ".join(text.split())
    low, high = wilson(round(test["accuracy"] * test["groups"]), test["groups"])
    # Eight near-copies are worth little more than one row: the interval is that of the groups, nearly.
    assert test["accuracy_high"] - test["accuracy_low"] == pytest.approx(high - low, rel=0.25)
    assert found["val"]["groups"] == found["val"]["n"] // EACH
    for row in found["per_class"]:
        by_row = wilson(round(row["recall"] * row["n"]), row["n"])
        assert row["recall_high"] - row["recall_low"] > 1.5 * (by_row[1] - by_row[0])
    with np.load(Path(grouped.home) / "runs" / found["run"] / "predictions.npz") as arrays:
        assert len(np.unique(arrays["groups"])) == test["groups"]


def test_more_folds_than_groups_is_a_clear_error(shell: Shell, tmp_path: Path) -> None:
    features, labels, groups = near_copies(0, groups=8)
    splits = np.where(np.arange(len(labels)) < 48, "train", "test")
    np.savez(tmp_path / "few.npz", features=features, labels=labels, groups=groups, splits=splits)
    shell("stores", "import", tmp_path / "few.npz")
    shell("fit", "logreg", "--cv", "7", code=2)
    assert "between 2 and 6 folds" in shell.error
    assert "7 folds of 6 groups" in shell.error
    told = " ".join(shell("fit", "logreg", "--cv", "6").split())
    assert "some of the 6 folds hold out none of a class: 0 has 24 images in 3 groups, 1 has 24" in told


@pytest.mark.parametrize("seed", range(8))
def test_folds_part_no_unit_and_leave_no_fold_empty(seed: int) -> None:
    generator = np.random.default_rng(seed)
    units = np.repeat(np.arange(30), generator.integers(1, 12, 30))
    labels = generator.integers(0, 3, 30)[units]
    labels[generator.random(len(labels)) < 0.1] = 0
    for folds in (2, 5, 30):
        found = stratified_folds(labels, folds, seed, units)
        assert set(found.tolist()) == set(range(folds))
        assert all(len(set(found[units == unit].tolist())) == 1 for unit in range(30))
        np.testing.assert_array_equal(found, stratified_folds(labels, folds, seed, units))
    assert (stratified_folds(labels, 5, seed, units) != stratified_folds(labels, 5, seed + 1, units)).any()


@pytest.mark.parametrize("seed", range(4))
def test_folds_are_as_stratified_as_scikit_learn_makes_them(seed: int) -> None:
    generator = np.random.default_rng(seed)
    units = np.repeat(np.arange(60), generator.integers(1, 9, 60))
    labels = generator.integers(0, 4, 60)[units]

    def spread(folds: np.ndarray) -> float:
        counts = np.array([np.bincount(labels[folds == fold], minlength=4) for fold in range(5)])
        return float((counts / counts.sum(axis=0)).std(axis=0).mean())

    theirs = np.empty(len(labels), int)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(splitter.split(labels, labels, units)):
        theirs[held] = fold
    assert spread(stratified_folds(labels, 5, seed, units)) <= 1.25 * spread(theirs)


def test_units_of_one_row_change_no_fold_and_no_draw() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 100)
    alone = np.random.default_rng(1).permutation(100)
    np.testing.assert_array_equal(stratified_folds(labels, 5, 3), stratified_folds(labels, 5, 3, alone))
    np.testing.assert_array_equal(few_shot(labels, 5, 3), few_shot(labels, 5, 3, alone))
    np.testing.assert_array_equal(fraction(labels, 0.3, 3), fraction(labels, 0.3, 3, alone))


def test_draws_without_units_are_those_of_before() -> None:
    labels = np.arange(40) % 4
    assert few_shot(labels, 2, 0).tolist() == [1, 2, 4, 11, 24, 27, 34, 37]
    assert fraction(labels, 0.2, 1).tolist() == [0, 6, 7, 9, 17, 22, 23, 28]
    assert stratified_folds(labels, 5, 2).tolist() == [
        1,
        4,
        2,
        2,
        2,
        1,
        2,
        1,
        4,
        0,
        3,
        1,
        1,
        3,
        0,
        4,
        4,
        4,
        3,
        2,
        0,
        2,
        0,
        0,
        2,
        2,
        4,
        3,
        3,
        3,
        4,
        3,
        0,
        0,
        1,
        4,
        3,
        1,
        1,
        0,
    ]


@pytest.mark.parametrize("seed", range(5))
def test_shots_come_from_as_many_groups_as_there_are(seed: int) -> None:
    units = np.repeat(np.arange(20), 8)
    labels = units % 2
    draws = {shots: few_shot(labels, shots, seed, units) for shots in (1, 5, 10, 12, 80)}
    for shots, rows in draws.items():
        for label in (0, 1):
            counts = np.bincount(units[rows[labels[rows] == label]], minlength=20)[label::2]
            assert counts.sum() == shots
            assert counts.max() - counts.min() <= 1
    for fewer, more in zip((1, 5, 10, 12), (5, 10, 12, 80), strict=True):
        assert set(draws[fewer].tolist()) < set(draws[more].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_a_fraction_takes_whole_groups(seed: int) -> None:
    units = np.repeat(np.arange(20), 8)
    labels = units % 2
    sizes = {0.01: 1, 0.1: 1, 0.3: 3, 0.5: 5, 1.0: 10}
    draws = {share: fraction(labels, share, seed, units) for share in sizes}
    for share, groups in sizes.items():
        rows = draws[share]
        counts = np.bincount(units[rows], minlength=20)
        assert set(counts.tolist()) <= {0, 8}
        assert (counts[0::2] > 0).sum() == (counts[1::2] > 0).sum() == groups
    assert set(draws[0.1].tolist()) < set(draws[0.3].tolist()) < set(draws[0.5].tolist())


def test_a_learning_curve_draws_groups(grouped: Shell) -> None:
    found = grouped.json("fit", "centroid", "--shots", "2", "--train-fraction", "0.1", "--repeats", "2")
    shots, share = found["curve"]
    assert shots["rows"] == 4
    assert share["rows"] % EACH == 0


@pytest.mark.parametrize("width", [6, 40])
def test_ridge_leaves_out_what_belongs_together(width: int) -> None:
    """The closed form gives what leaving out every unit gives, with more rows than columns and fewer."""
    generator = np.random.default_rng(0)
    units = np.repeat(np.arange(12), [1, 2, 3] * 4)
    labels = np.r_[np.arange(12) % 3][units].astype(np.int32)
    features = (generator.normal(size=(12, width))[units] + 0.1 * generator.normal(size=(24, width))).astype(
        np.float32
    )
    samples = Samples(features, labels, units=units)
    alpha = 0.5
    found = RidgePath(samples, 3).leave_one_out_values(alpha)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    for unit in range(12):
        out = units == unit
        kept = Ridge(alpha=alpha).fit(standard[~out], np.where(np.eye(3)[labels[~out]], 1, -1))
        np.testing.assert_allclose(found[out], kept.predict(standard[out]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("alpha", [1e-2, 0.5, 1e4])
def test_ridge_leaves_out_units_of_more_rows_than_columns(alpha: float) -> None:
    generator = np.random.default_rng(0)
    units = np.repeat(np.arange(5), [1, 60, 5, 4, 30])
    labels = generator.integers(0, 3, 100).astype(np.int32)
    features = (generator.normal(size=(100, 4)) + labels[:, None] * [1, 0, 0, 0]).astype(np.float32)
    found = RidgePath(Samples(features, labels, units=units), 3).leave_one_out_values(alpha)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    for unit in range(5):
        out = units == unit
        kept = Ridge(alpha=alpha).fit(standard[~out], np.where(np.eye(3)[labels[~out]], 1, -1))
        np.testing.assert_allclose(found[out], kept.predict(standard[out]), rtol=1e-4, atol=1e-5)


def test_thousands_of_rows_of_one_unit_are_no_matrix_of_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    largest, solve = 0, np.linalg.solve

    def measured(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, len(matrix))
        return solve(matrix, values)

    monkeypatch.setattr(np.linalg, "solve", measured)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(3000, 5)).astype(np.float32)
    samples = Samples(features, np.arange(3000) % 3, units=np.arange(3000) // 1000)
    fit_ridge(samples, None, 3, RidgeOptions(alpha=(1.0,)))
    assert largest == 6


def test_ridge_without_validation_is_not_taken_in_by_near_copies() -> None:
    features, labels, groups = near_copies(0)
    units = kept_together(np.array([str(row) for row in range(len(labels))]), groups)
    by_row = fit_ridge(Samples(features, labels), None, 2, RidgeOptions())
    by_group = fit_ridge(Samples(features, labels, units=units), None, 2, RidgeOptions())
    unseen, truth, _ = near_copies(1, groups=2000)
    right = float((by_group.head.predict_proba(unseen).argmax(1) == truth).mean())
    assert by_row.chosen["loo_accuracy"] > 0.85
    assert by_group.chosen["loo_accuracy"] == pytest.approx(right, abs=0.08)
    with pytest.raises(FitError, match="nothing would be left"):
        fit_ridge(Samples(features, labels, units=np.zeros_like(units)), None, 2, RidgeOptions())


def test_a_class_that_is_one_group_is_said_to_be_beyond_cross_validation() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 40, 8]).astype(np.int32)
    units = np.r_[np.arange(80) // 4, np.full(8, 99)]
    features = generator.normal(size=(88, 5)).astype(np.float32)
    options = LogregOptions(c=(0.01,), cv=4)
    outcome = fit_logreg(Samples(features, labels, units=units), None, 3, options)
    assert any("class number 2 lie in one fold" in note for note in outcome.notes)
    alone = fit_logreg(Samples(features, labels), None, 3, options)
    assert not any("lie in one fold" in note for note in alone.notes)
