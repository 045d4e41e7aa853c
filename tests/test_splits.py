"""How rows are divided: golden indices, independence of file order, what stays together."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from probe.datasets.splits import carve_validation, split_rows
from probe.errors import UsageError


def rows(*counts):
    """Hashes and labels of as many rows a class as `counts` says."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    hashes = np.array([hashlib.sha256(b"%d" % row).hexdigest() for row in range(len(labels))])
    return hashes, labels


def sizes(splits, labels, label):
    counts = Counter(splits[labels == label].tolist())
    return counts["train"], counts["val"], counts["test"]


def test_golden_indices():
    hashes, labels = rows(10, 10)
    splits = split_rows(hashes, labels)
    assert np.flatnonzero(splits == "test").tolist() == [8, 9, 17, 18]
    assert np.flatnonzero(splits == "val").tolist() == [5, 16]
    assert np.flatnonzero(split_rows(hashes, labels, seed=1) == "test").tolist() == [6, 7, 10, 19]
    everything = np.full(20, "train")
    assert np.flatnonzero(carve_validation(hashes, labels, everything) == "val").tolist() == [8, 18]


def test_every_class_is_divided_by_the_same_shares():
    hashes, labels = rows(100, 1000, 10)
    splits = split_rows(hashes, labels)
    assert sizes(splits, labels, 0) == (70, 10, 20)
    assert sizes(splits, labels, 1) == (700, 100, 200)
    assert sizes(splits, labels, 2) == (7, 1, 2)
    other = split_rows(hashes, labels, (0.6, 0.2, 0.2))
    assert sizes(other, labels, 1) == (600, 200, 200)


def test_file_order_does_not_matter():
    hashes, labels = rows(30, 50)
    order = np.random.default_rng(0).permutation(80)
    np.testing.assert_array_equal(split_rows(hashes, labels)[order], split_rows(hashes[order], labels[order]))


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.2), (0.1, 0.45, 0.45)])
def test_small_classes_keep_a_row_to_train_on(count, shares):
    hashes, labels = rows(count, 40)
    train, val, test = sizes(split_rows(hashes, labels, shares), labels, 0)
    assert train >= 1
    assert train + val + test == count


def test_copies_and_groups_stay_together():
    hashes, labels = rows(60, 60)
    hashes[40:60] = hashes[0:20]
    groups = np.array([f"g{row // 3}" if row >= 60 else "" for row in range(120)])
    splits = split_rows(hashes, labels, groups=groups)
    assert (splits[40:60] == splits[0:20]).all()
    assert all(len(set(splits[60 + 3 * g : 63 + 3 * g].tolist())) == 1 for g in range(20))
    _, val, test = sizes(splits, labels, 1)
    assert (val, test) == pytest.approx((6, 12), abs=2)


def test_a_chain_of_copies_and_groups_is_one_unit():
    hashes, labels = rows(20)
    hashes[1] = hashes[0]
    groups = np.array(["a" if row in (1, 2) else "b" if row in (3, 4) else "" for row in range(20)])
    hashes[3] = hashes[2]
    for seed in range(8):
        assert len(set(split_rows(hashes, labels, seed=seed, groups=groups)[:5].tolist())) == 1


def test_rows_without_label_or_content_get_no_split():
    hashes, labels = rows(10, 10)
    labels[3], hashes[15] = -1, ""
    splits = split_rows(hashes, labels)
    assert np.flatnonzero(splits == "").tolist() == [3, 15]


def test_carving_touches_train_alone():
    hashes, labels = rows(100, 200)
    splits = np.where(np.arange(300) % 2 == 0, "train", "test")
    carved = carve_validation(hashes, labels, splits)
    assert (carved[splits == "test"] == "test").all()
    assert sizes(carved, labels, 0) == (45, 5, 50)
    assert sizes(carved, labels, 1) == (90, 10, 100)


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_shares_that_cannot_be(shares):
    hashes, labels = rows(10)
    with pytest.raises(UsageError, match="shares"):
        split_rows(hashes, labels, shares)


def totals(splits):
    counts = Counter(splits.tolist())
    return counts["train"], counts["val"], counts["test"]


def test_small_classes_come_out_at_the_shares_asked_for():
    assert totals(split_rows(*rows(*[4] * 150))) == (420, 60, 120)
    assert totals(split_rows(*rows(*[15] * 200))) == (2100, 300, 600)
    assert totals(split_rows(*rows(*[4] * 150), (0.6, 0.2, 0.2))) == (360, 120, 120)
    assert totals(split_rows(*rows(*[4] * 150), (1.0, 0.0, 0.0))) == (600, 0, 0)
    hashes, labels = rows(*[4] * 150)
    assert totals(carve_validation(hashes, labels, np.full(600, "train"))) == (540, 60, 0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.2), (0.6, 0.2, 0.2), (0.85, 0.15, 0.0), (0.8, 0.0, 0.2)])
def test_totals_are_those_of_the_largest_remainder(seed, shares):
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 12, generator.integers(2, 60)).tolist()
    hashes, labels = rows(*counts)
    splits = split_rows(hashes, labels, shares, seed=seed)
    found, quotas = np.array(totals(splits)), sum(counts) * np.array(shares)
    assert found.sum() == sum(counts)
    np.testing.assert_array_less(np.abs(found - quotas), 1)
    rest = np.round(quotas - np.floor(quotas + 1e-9), 6)
    up = found > quotas + 1e-9
    if up.any() and not up.all():
        assert rest[up].min() >= rest[~up].max()
    assert set(labels[splits == "train"].tolist()) == set(range(len(counts)))


@pytest.mark.parametrize("seed", range(6))
def test_a_class_is_divided_nearly_by_its_own_shares_as_well(seed):
    hashes, labels = rows(*np.random.default_rng(seed).integers(4, 30, 40).tolist())
    splits = split_rows(hashes, labels, seed=seed)
    for label in range(40):
        quota = (labels == label).sum() * np.array([0.7, 0.1, 0.2])
        np.testing.assert_array_less(np.abs(np.array(sizes(splits, labels, label)) - quota), 1.5)


def test_where_every_class_needs_its_one_row_the_rest_is_scored():
    hashes, labels = rows(*[1] * 90, 10)
    splits = split_rows(hashes, labels)
    assert totals(splits) == (91, 3, 6)
    assert set(labels[splits == "train"].tolist()) == set(range(91))
    assert totals(split_rows(*rows(1, 1, 1))) == (3, 0, 0)


def test_a_class_whose_only_row_sits_in_a_group_stays_in_train():
    hashes, labels = rows(60, 60, 1)
    groups = np.array([f"g{row // 6}" for row in range(120)] + ["g3"])
    for seed in range(60):
        splits = split_rows(hashes, labels, seed=seed, groups=groups)
        assert splits[120] == "train"
        assert (splits[18:24] == "train").all()
        assert totals(splits) == pytest.approx((85, 12, 24), abs=6)


def test_groups_come_as_near_to_the_shares_as_whole_groups_can():
    hashes, labels = rows(*[24] * 100)
    splits = split_rows(hashes, labels, groups=np.array([f"g{row // 8}" for row in range(2400)]))
    assert totals(splits) == (1680, 240, 480)
    one_each = np.array([f"g{label}" for label in labels])
    assert totals(split_rows(hashes, labels, groups=one_each)) == (2400, 0, 0)


def test_a_class_that_is_one_group_does_not_cost_another_its_training_rows():
    hashes, labels = rows(900, 100)
    groups = np.array(["all"] * 900 + [""] * 100)
    splits = split_rows(hashes, labels, groups=groups)
    assert (splits[:900] == "train").all()
    assert sizes(splits, labels, 1)[0] >= 35
