"""The images a verb works on: how they are read, and fetching what is not here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from probe.datasets import DATASETS, Dataset, DatasetOptions, DatasetRow, open_dataset
from probe.datasets.arrangement import Layout
from probe.datasets.dataset import count_parts
from probe.datasets.fetch import download_bytes
from probe.datasets.fetch import fetch as fetch_row
from probe.datasets.place import is_fetched, is_missing
from probe.datasets.splits import CARVED_SHARE
from probe.errors import UsageError
from probe.progress import Progress
from probe.text import count_of, few
from probe.workspace.context import Context
from probe.workspace.keywords import at_least, one_of

Fractions = tuple[float, float, float]


@dataclass(frozen=True)
class DataKeywords:
    """How a data set is read, by the names of the options of every command that reads one.

    Attributes
    ----------
    labels : CSV with the columns path, label and optionally split and group.
    split : fractions of train, val and test, ``(0.6, 0.2, 0.2)`` or ``"0.6,0.2,0.2"``.
    split_seed : of a split that is made here.
    validation : share of train that becomes validation when the data set has none.
    drop_duplicates : leave out of train what also lies in another split.
    columns : image and label column of a set that is a table.
    layout : what the folders of a folder of images are: ``auto`` or as ``--layout`` says.
    follow_links : read what links lead to outside of the folder.
    source : archive or unpacked folder of a named data set (``--from``).
    limit : only so many images, evenly spread.
    rehash : read every image again, also where its file looks as it did.
    """

    labels: Path | None = None
    split: Fractions | str | None = None
    split_seed: int = 0
    validation: float = CARVED_SHARE
    drop_duplicates: bool = False
    columns: tuple[str, ...] = ()
    layout: str = Layout.AUTO.value
    follow_links: bool = False
    source: Path | None = None
    limit: int | None = None
    rehash: bool = False

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit)
        at_least(0, split_seed=self.split_seed)
        one_of([layout.value for layout in Layout], layout=self.layout)

    def options(self) -> DatasetOptions:
        """The same as the readers of data sets take it. UsageError for a split that is none."""
        return DatasetOptions(
            labels=self.labels,
            split=read_fractions(self.split) if isinstance(self.split, str) else self.split,
            seed=self.split_seed,
            source=self.source,
            validation=self.validation,
            drop_duplicates=self.drop_duplicates,
            limit=self.limit,
            columns=self.columns,
            layout=Layout(self.layout),
            follow_links=self.follow_links,
            rehash=self.rehash,
        )


def read_fractions(text: str) -> Fractions:
    """``0.6,0.2,0.2`` -> fractions of train, val and test; UsageError for anything else."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        train = val = test = math.nan
    if not all(map(math.isfinite, (train, val, test))):
        raise UsageError(
            "--split is not three fractions", expected="train,val,test such as 0.6,0.2,0.2", found=text
        )
    return train, val, test


def read_images(context: Context, name: str, options: DatasetOptions) -> Dataset:
    """Open a data set, fetched first where it has a name and is not here.

    Raises as `probe.datasets.open_dataset` and `probe.datasets.fetch.fetch`.
    """
    fetch_if_missing(context, name, options)
    with Progress(f"read {name}", shown=context.progress):
        return open_dataset(name, context.home, options)


def fetch_if_missing(context: Context, name: str, options: DatasetOptions) -> None:
    """Fetch a named data set that is neither here nor pointed at, after saying what and how large."""
    if name not in DATASETS or options.source is not None:
        return
    if is_missing(DATASETS[name], context.home):
        fetch(context, DATASETS[name])


def fetch(context: Context, row: DatasetRow) -> Path:
    """Download a data set, check its hash and unpack it, after saying what and how large; its folder.

    An interrupted download is resumed. DataError when the files cannot be had or are not the known ones.
    """
    if row.files and not is_fetched(row, context.home):
        size = download_bytes(row)
        context.say(f"fetching {row.name}" + (f", {size / 1e6:,.0f} MB" if size else ""))
    bars: dict[str, Progress] = {}
    with ExitStack() as shown:

        def progress(file: str, here: int, total: int) -> None:
            if file not in bars:
                bar = Progress(file, total or None, "B", initial=here, shown=context.progress, in_bytes=True)
                bars[file] = shown.enter_context(bar)
            bars[file].update(here - bars[file].n)

        return fetch_row(row, context.home, progress=progress)


def set_line(dataset: Dataset) -> str:
    """``2 classes: cats, dogs; train 28, val 4, test 8``: how a data set was read."""
    number = count_of(len(dataset.classes), "class", "classes")
    classes = f"{number}: {few(dataset.classes)}" if dataset.classes else "no classes"
    return f"{classes}; {parts_line(count_parts(dataset.splits))}"


def parts_line(parts: Mapping[str, int]) -> str:
    """``train 28, val 4, test 8``."""
    return ", ".join(f"{part} {count:,}" for part, count in parts.items())
