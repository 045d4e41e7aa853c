"""``probe data check``: what was found against what the row declares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from probe.datasets.dataset import SPLITS, TRAIN, VAL, Dataset
from probe.datasets.indexing import UNREADABLE
from probe.datasets.row import DatasetRow


@dataclass(frozen=True)
class Difference:
    """One declared fact that was found to be otherwise."""

    what: str
    expected: str
    found: str


def check(row: DatasetRow, dataset: Dataset) -> list[Difference]:
    """Every difference between the declared facts and a data set opened with its own split; empty: none.

    Validation that was taken from train counts as train, as its publisher counts it.
    """
    differences = []

    def compare(what: str, expected: object, found: object) -> None:
        if expected and expected != found:
            differences.append(Difference(what, _text(expected), _text(found)))

    compare("images", row.images, len(dataset))
    compare("classes", row.classes, len(dataset.classes))
    compare("class names", row.class_names, dataset.classes)
    counts = Counter(dataset.splits.tolist())
    if VAL not in row.splits:
        counts[TRAIN] += counts.pop(VAL, 0)
    for split in SPLITS:
        if row.splits:
            compare(f"images in {split}", row.splits.get(split, 0), counts[split])
    unread = dataset.ids[dataset.hashes == UNREADABLE].tolist()
    surprises = [name for name in unread if name not in dataset.broken]
    if surprises:
        expected = f"only {_text(sorted(dataset.broken))}" if dataset.broken else "none"
        differences.append(Difference("files that cannot be read", expected, _text(surprises)))
    used = set(dataset.labels.tolist())
    empty = [name for label, name in enumerate(dataset.classes) if label not in used]
    if empty:
        differences.append(
            Difference("classes with images", str(len(dataset.classes)), f"none of {_text(empty)}")
        )
    return differences


def _text(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (tuple, list)):
        return ", ".join(str(item) for item in value[:12]) + (", …" if len(value) > 12 else "")
    return str(value)
