"""What a shell completes: names of stores, runs, backbones, heads and data sets, by folders and tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from probe.config import Home

Items = list[CompletionItem]


def stores(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The folders of the home's stores, and ``latest``."""
    return _items(["latest", *_folders(_home(context).stores)], incomplete)


def runs(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The folders of the home's runs, the names given to them, and ``latest``."""
    from probe.runs.naming import read_naming

    folder = _home(context).runs
    found = _folders(folder)
    called = [read_naming(folder / name).name or "" for name in found]
    return _items(["latest", *filter(None, called), *found], incomplete)


def runs_and_stores(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """What a page can be of."""
    found = [*runs(context, param, incomplete), *stores(context, param, incomplete)]
    return list({item.value: item for item in found}.values())


def data_sets(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Data sets that have a name, and files and folders."""
    return _or_files(data_set_names(context, param, incomplete), incomplete)


def data_set_names(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Data sets that have a name."""
    from probe.datasets import DATASETS

    return _items(DATASETS, incomplete)


def data_sets_and_stores(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """What a command takes that works on a store or on the images of a data set."""
    names = [*stores(context, param, incomplete), *data_set_names(context, param, incomplete)]
    return _or_files(names, incomplete)


def backbones(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The rows of the table of backbones, and files."""
    from probe.backbones import BACKBONES

    return _or_files(_items(BACKBONES, incomplete), incomplete)


def several_backbones(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The last of a list with commas."""
    from probe.backbones import BACKBONES

    return _last_of_list(BACKBONES, incomplete)


def several_heads(context: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The last of a list with commas."""
    from probe.heads import HEADS

    return _last_of_list(HEADS, incomplete)


def _last_of_list(names: Iterable[str], incomplete: str) -> Items:
    before, comma, last = incomplete.rpartition(",")
    named = before.split(",")
    left = [name for name in names if name not in named]
    return [CompletionItem(before + comma + item.value) for item in _items(left, last)]


def _or_files(names: Items, incomplete: str) -> Items:
    """Files and folders where no name begins so: bash forgets names where it is to look for files."""
    return names or [CompletionItem(incomplete, type="file")]


def _items(names: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _home(context: click.Context) -> Home:
    """The home of the line that is being completed; no command has been called yet."""
    return Home(Path(context.find_root().params["home"]))


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
