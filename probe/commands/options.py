"""Options that several commands share, each defined once; and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from probe.commands.console import echo
from probe.datasets.arrangement import Layout
from probe.datasets.dataset import Dataset, count_parts
from probe.errors import UsageError
from probe.plain import one_line
from probe.progress import say
from probe.table import Table
from probe.workspace.data import DataKeywords

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress and no notes on stderr.")
log_option = click.option(
    "--log",
    "trackers",
    multiple=True,
    metavar="TRACKER",
    help="Log what was trained or fitted to mlflow[:URI] or tensorboard:DIR too;"
    " repeatable.  [default: none]",
)
map_option = click.option(
    "--map",
    type=click.Choice(["pca", "opentsne"]),
    default="pca",
    show_default=True,
    help="How embeddings become a map: principal components, or openTSNE (extra `maps`).",
)
follow_links_option = click.option(
    "--follow-links", is_flag=True, help="Read what links lead to outside of the folder of images."
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Only N images, evenly spread over the data set.  [default: all]",
)


def comma_list(context: click.Context, option: click.Parameter, text: str | None) -> tuple[str, ...]:
    """``a,b`` -> ``("a", "b")``, the callback of an option that takes a list; empty without it."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


TABLE_FORMS = {"csv": "CSV", "markdown": "Markdown", "latex": "LaTeX"}


def table_options(command: CommandT) -> CommandT:
    """How a table is printed; the command receives `form`, ``csv``, ``markdown``, ``latex`` or None."""

    def wrapped(csv: bool, markdown: bool, latex: bool, as_json: bool, **rest: Any) -> Any:
        asked = [form for form, wanted in zip(TABLE_FORMS, (csv, markdown, latex), strict=True) if wanted]
        if len(asked) + as_json > 1:
            raise UsageError("--json, --csv, --markdown and --latex exclude each other")
        return command(form=asked[0] if asked else None, as_json=as_json, **rest)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for form, name in reversed(TABLE_FORMS.items()):
        wrapped = click.option(f"--{form}", is_flag=True, help=f"Print the table as {name}.")(wrapped)
    return wrapped  # type: ignore[return-value]


def emit_table(table: Table, form: str) -> None:
    """Print a table on stdout as ``csv``, ``markdown`` or ``latex``."""
    text = {"csv": table.to_csv, "markdown": table.to_markdown, "latex": table.to_latex}[form]()
    for line in text.splitlines():
        echo(line)


def labelling_options(command: CommandT) -> CommandT:
    """Labels and splits of rows that are not a named data set; the command receives `options`, as below."""

    def wrapped(
        labels: Path | None,
        split: str | None,
        split_seed: int,
        validation: float,
        drop_duplicates: bool,
        columns: str | None = None,
        layout: str = Layout.AUTO,
        follow_links: bool = False,
        source: Path | None = None,
        limit: int | None = None,
        **rest: Any,
    ) -> Any:
        words = DataKeywords(
            labels=labels,
            split=split,
            split_seed=split_seed,
            source=source,
            validation=validation,
            drop_duplicates=drop_duplicates,
            limit=limit,
            columns=tuple(columns.split(",")) if columns else (),
            layout=layout,
            follow_links=follow_links,
        )
        return command(options=words.options(), **rest)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option(
            "--drop-duplicates", is_flag=True, help="Leave out of train what also lies in another split."
        ),
        click.option(
            "--validation",
            type=click.FloatRange(0, 1, max_open=True),
            default=0.1,
            help="Share of train that becomes validation, when the data set has none; 0 for no validation.",
        ),
        click.option(
            "--split-seed", type=click.IntRange(min=0), default=0, help="Seed of a split that probe makes."
        ),
        click.option(
            "--split",
            help="Fractions of train, val and test, when the data set has no split.  [default: 0.7,0.1,0.2]",
        ),
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            help="CSV with the columns path, label and optionally split and group."
            "  [default: the data set's own labels]",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def dataset_options(command: CommandT) -> CommandT:
    """The options that say how a data set is read; the command receives `options: DatasetOptions`."""
    return limit_option(whole_dataset_options(command))


def whole_dataset_options(command: CommandT) -> CommandT:
    """The same for a command that is about all of a data set."""
    source = click.option(
        "--from",
        "source",
        type=click.Path(path_type=Path),
        help="Archive or unpacked folder of a named data set that is already on disk."
        "  [default: as fetched into PROBE_HOME]",
    )
    columns = click.option(
        "--columns",
        metavar="IMAGE[,LABEL]",
        help="Columns of a parquet file, or of a set in Hugging Face's format."
        "  [default: found by their types]",
    )
    layout = click.option(
        "--layout",
        type=click.Choice([str(layout) for layout in Layout]),
        default=str(Layout.AUTO),
        show_default=True,
        help="What the folders of a folder of images are, where they can be read in two ways.",
    )
    return source(columns(layout(follow_links_option(labelling_options(command)))))


def set_record(dataset: Dataset) -> dict[str, Any]:
    """How a data set was read: how many classes and their names in label order, and the images a split."""
    return {
        "classes": len(dataset.classes),
        "class_names": list(dataset.classes),
        "parts": count_parts(dataset.splits),
    }


def emit(value: Any, as_json: bool, lines: Callable[[], Sequence[str]]) -> None:
    """Print a result on stdout: JSON for machines, `lines()` for people."""
    if as_json:
        echo(json.dumps(value))
    else:
        for line in lines():
            echo(one_line(line))


def note(message: str, quiet: bool = False) -> None:
    """Something the user should see that is not the result: on stderr."""
    if not quiet:
        say(message)


def nothing_in(kind: str, folder: Path) -> str:
    """What a list without entries says: where it looked, and how to look elsewhere."""
    return f"no {kind} in {folder.resolve()} (another home is named by --home or PROBE_HOME)"


def confirmed(told: str) -> bool:
    """Ask whether to delete what is `told`, on stderr; says so where nothing is deleted.

    UsageError when there is nobody to answer (standard input has ended).
    """
    note(told)
    try:
        if click.confirm("delete it?", err=True):
            return True
    except click.Abort as stopped:
        note("")  # The line of the question has not ended.
        if isinstance(stopped.__context__, EOFError):
            raise UsageError("nothing was deleted: nobody answered", hint="--yes does not ask") from None
        note("nothing was deleted")
        raise
    note("nothing was deleted")
    return False


def folder_facts(path: Path) -> str:
    """``3.4 MB, written 2025-01-31 12:00 UTC``: all files of a folder, and the newest of them."""
    stats = [file.lstat() for file in path.rglob("*") if not file.is_dir()]
    written = max([path.stat().st_mtime, *(stat.st_mtime for stat in stats)])
    size = sum(stat.st_size for stat in stats) / 1e6
    return f"{size:,.1f} MB, written {datetime.fromtimestamp(written, UTC):%Y-%m-%d %H:%M} UTC"


def wants_progress(quiet: bool) -> bool:
    """Whether long work says how far it has come; see `probe.progress` for what is shown where."""
    return not quiet
