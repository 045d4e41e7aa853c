"""``probe stores import`` and ``export``: embeddings from and for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.completion import stores
from probe.commands.options import emit, json_option, labelling_options, note, quiet_option
from probe.config import Home
from probe.datasets import DatasetOptions
from probe.store import find_store


@click.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@labelling_options
@json_option
@quiet_option
@click.pass_obj
def import_command(home: Home, file: Path, options: DatasetOptions, as_json: bool, quiet: bool) -> None:
    """Make a store of embeddings computed elsewhere, for fit and compare.

    FILE is an .npy (N, D) or (N, H, W, C); an .npz with features and, where wanted, ids, labels, splits and
    classes; or a .parquet with a list column or columns f0, f1, … and, where wanted, id, label and split.
    --labels names a CSV (label and, where wanted, id, split and group), an .npz or an .npy of labels.
    """
    from probe.store.exchange import import_store

    result, notes = import_store(file, home, options)
    for line in notes:
        note(line, quiet)
    emit(result.to_json(), as_json, result.lines)


@click.command(name="export")
@click.argument("store", required=False, shell_complete=stores)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["npz", "npy", "parquet"]),
    help="[default: as the file is called, else npz]",
)
@click.option(
    "--output-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write; its ending may say the format.  [default: STORE.FORMAT here]",
)
@click.option("--output", help="Which of the stored outputs.  [default: the first]")
@json_option
@click.pass_obj
def export_command(
    home: Home,
    store: str | None,
    file_format: str | None,
    output_file: Path | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Write a STORE's embeddings with ids, labels and splits (by default of the newest store).

    STORE is as `probe stores show` takes it.
    Rows whose image could not be read are left out. An .npy has its labels beside it, in NAME.labels.npz.
    """
    from probe.store.exchange import default_file, export_store

    found = find_store(home, store)
    file = output_file or default_file(found, file_format or "npz")
    result = export_store(found, file, file_format, output)
    emit(result.to_json(), as_json, result.lines)
