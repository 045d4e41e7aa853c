"""What lies in a home, as sequences: stores, runs, and the data sets that have a name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from probe.datasets import DATASETS, Dataset, DatasetRow
from probe.notebook import table_html
from probe.runs import Run, find_run, list_runs
from probe.store import Store, find_store, list_stores
from probe.table import Table
from probe.workspace.context import Context
from probe.workspace.data import DataKeywords, fetch, read_images
from probe.workspace.keywords import divide, takes
from probe.workspace.rows import Row, dataset_facts, dataset_row, run_facts, run_row, store_facts, store_row

ItemT = TypeVar("ItemT")


class _Listed(Sequence[ItemT], Generic[ItemT]):
    """Items that are looked for anew whenever they are asked for, so that a list is never out of date."""

    title: str

    def __init__(self, context: Context) -> None:
        self._context = context

    def _items(self) -> Sequence[ItemT]:
        raise NotImplementedError

    def _find(self, name: str) -> ItemT:
        raise NotImplementedError

    def _row(self, item: ItemT) -> Row:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[ItemT]:
        return iter(self._items())

    @overload
    def __getitem__(self, which: int | str) -> ItemT: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[ItemT]: ...
    def __getitem__(self, which: int | str | slice) -> ItemT | Sequence[ItemT]:
        """By place, or by a name as commands take it."""
        return self._find(which) if isinstance(which, str) else self._items()[which]

    def table(self) -> Table:
        """A row an item, with the columns of the command that lists them."""
        return Table(self._row(item) for item in self._items())

    def __repr__(self) -> str:
        table = self.table()
        return repr(table) if table else f"no {self.title} in {self._where()}"

    def _repr_html_(self) -> str:
        return table_html(f"{self.title} in {self._where()}", self.table())

    def _where(self) -> Path:
        return self._context.home.root


class Stores(_Listed[Store]):
    """The finished stores of a home, the one last used first."""

    title = "stores"

    def latest(self, back: int = 1) -> Store:
        """The store last used, or the one `back` places before; prefix caches do not count."""
        return find_store(self._context.home, f"latest:{back}")

    def _items(self) -> Sequence[Store]:
        return list_stores(self._context.home)[0]

    def _find(self, name: str) -> Store:
        return find_store(self._context.home, name)

    def _row(self, item: Store) -> Row:
        return store_row(store_facts(item))


class Runs(_Listed[Run]):
    """The runs of a home, the one finished last first."""

    title = "runs"

    def latest(self, back: int = 1) -> Run:
        """The run finished last, or the one `back` places before."""
        return find_run(self._context.home, f"latest:{back}")

    def _items(self) -> Sequence[Run]:
        return list_runs(self._context.home)[0]

    def _find(self, name: str) -> Run:
        return find_run(self._context.home, name)

    def _row(self, item: Run) -> Row:
        return run_row(run_facts(item))


class DataSets(_Listed[DatasetRow]):
    """The data sets that have a name; folders and files of images need none."""

    title = "data sets"

    def fetch(self, name: str) -> Path:
        """Download a data set, check its hash and unpack it: its folder. DataError when it cannot be had."""
        return fetch(self._context, DATASETS[name])

    @takes(DataKeywords)
    def open(self, dataset: str | Path, **keywords: Any) -> Dataset:
        """The images of a data set with their labels and splits, fetched where they have a name.

        Keywords are those of `probe.workspace.data.DataKeywords`. UsageError for what cannot be asked,
        DataError for data that is not what it should be.
        """
        (wanted,) = divide(keywords, DataKeywords)
        return read_images(self._context, str(dataset), wanted.options())

    def _items(self) -> Sequence[DatasetRow]:
        return list(DATASETS.values())

    def _find(self, name: str) -> DatasetRow:
        return DATASETS[name]

    def _row(self, item: DatasetRow) -> Row:
        return dataset_row(dataset_facts(item, self._context.home))
