"""``probe stores``: what has been extracted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands.completion import stores as store_names
from probe.commands.options import (
    confirmed,
    emit,
    folder_facts,
    json_option,
    note,
    nothing_in,
    quiet_option,
    wants_progress,
)
from probe.commands.stores_exchange import export_command, import_command
from probe.config import Home
from probe.errors import EXIT_DONE, EXIT_FAILED, EXIT_VERIFY, StoreError
from probe.order import places_back
from probe.report.runs import conflicts_text, copies_text, parted_text
from probe.store import (
    IMPORTED,
    Repair,
    find_store,
    list_stores,
    open_store,
    remove_store,
    rounding_text,
    store_folder,
    verify_store,
)
from probe.text import count_of, rows_table, shapes_text
from probe.workspace.rows import store_facts, store_row

if TYPE_CHECKING:
    from probe.extract import ExtractResult
    from probe.store import Store

UNREADABLE_SHOWN = 20


@click.group(name="stores")
def command() -> None:
    """List, show, verify, repair, export, import and remove stores of embeddings."""


command.add_command(export_command)
command.add_command(import_command)


@command.command()
@json_option
@click.pass_obj
def ls(home: Home, as_json: bool) -> None:
    """List the stores, the one last used first: ``latest``, ``latest:2`` … of those that are not internal."""
    stores, problems = list_stores(home)
    rows = [store_facts(store) for store in stores]
    emit(rows, as_json, lambda: rows_table(map(store_row, rows)) or [nothing_in("store", home.stores)])
    for path, error in problems:
        note(f"{path.name}: {error.problem}")
    for store in stores:
        _note_changes(store)


def _note_changes(store: Store) -> None:
    if not store.manifest.intact:
        note(f"{store.name}: its manifest was changed since it was written: probe stores repair {store.name}")


@command.command()
@click.argument("store", required=False, shell_complete=store_names)
@json_option
@click.pass_obj
def show(home: Home, store: str | None, as_json: bool) -> None:
    """Show everything a STORE records (by default the newest).

    STORE is a name from `probe stores ls` or a part of it, a path, ``latest`` or ``latest:2``, or a data set.
    """
    found = find_store(home, store)
    manifest = found.manifest
    _note_changes(found)
    labelling = found.index.facts()
    record = {
        "store": found.name,
        "path": str(found.path),
        "key": found.key,
        "index": found.index_hash,
        "layout": manifest.layout.as_json(),
        "spec": dict(manifest.spec),
        "facts": dict(manifest.facts),
        "duplicates": labelling["duplicates"],
        "label_conflicts": labelling["label_conflicts"],
        "groups": labelling["groups"],
        "parted_groups": labelling["parted_groups"],
        "unreadable": {key: list(problem) for key, problem in found.unreadable.items()},
        "parts": labelling["parts"],
        "classes": labelling["classes"],
    }
    emit(record, as_json, lambda: _show_lines(record))


def _show_lines(record: dict[str, Any]) -> list[str]:
    layout, backbone, facts = record["layout"], record["spec"]["backbone"], record["facts"]
    lines = [
        f"store      {record['path']}",
        f"key        {record['key']}",
        f"data set   {facts.get('dataset')}, {layout['rows']:,} rows, {len(record['classes'])} classes",
        *(f"           {name.replace('_', ' ')}: {value}" for name, value in _told(facts)),
        f"parts      {', '.join(f'{name} {count:,}' for name, count in record['parts'].items())}",
        _backbone_line(backbone),
        f"weights    {backbone['weights']}",
        f"outputs    {shapes_text(layout['shapes'])}",
        f"stored     {_stored_text(layout['dtype'], facts.get('rounding'))}",
        f"created    {facts.get('created')} in {facts.get('seconds')} s",
        *(f"note       {line}" for line in facts.get("notes", [])),
    ]
    if record["groups"]:
        parted = f", parted: {parted_text(record['parted_groups'])}" if record["parted_groups"] else ""
        lines.append(f"groups     {record['groups']:,}{parted}")
    if record["duplicates"]:
        lines.append(f"copies     {copies_text(record['duplicates'])}")
    if record["label_conflicts"]:
        lines.append(f"labels     {conflicts_text(len(record['label_conflicts']))}")
    unreadable = record["unreadable"]
    if unreadable:
        lines.append(f"unread     {len(unreadable):,}")
        shown = list(unreadable.items())[:UNREADABLE_SHOWN]
        broken = set(facts.get("broken", ()))
        lines += [
            f"           {name}: {reason}{', broken as published' if name in broken else ''}"
            for name, (_, reason) in shown
        ]
        if len(unreadable) > len(shown):
            lines.append(f"           … and {len(unreadable) - len(shown):,} more (--json lists all)")
    return lines


def _stored_text(dtype: str, rounding: float | None) -> str:
    return dtype if rounding is None else rounding_text(rounding)


def _told(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of the data set; copies are told for the labelling in force and not as first recorded."""
    known = facts.get("dataset_facts", {})
    return [(name, value) for name, value in known.items() if not name.startswith("copies_")]


def _backbone_line(backbone: dict[str, Any]) -> str:
    if backbone["name"] == IMPORTED:
        return "backbone   not known: imported embeddings"
    return (
        f"backbone   {backbone['name']} at {backbone['size']} px, {backbone['precision']},"
        f" preprocess {backbone['preprocess']}"
    )


@command.command()
@click.argument("store", required=False, shell_complete=store_names)
@click.option("--full", is_flag=True, help="Read every chunk: hashes, NaN where the status says, labels.")
@json_option
@click.pass_obj
def verify(home: Home, store: str | None, full: bool, as_json: bool) -> int:
    """Check a STORE (as `probe stores show` takes it) against its own record; exit code 3 when it differs."""
    found = find_store(home, store)
    report = verify_store(found.path, full=full)
    emit(
        {"ok": report.ok, **asdict(report)},
        as_json,
        lambda: [
            f"{'ok' if report.ok else 'DAMAGED'}  {found.name}  "
            + ", ".join(count_of(count, what[:-1], what) for what, count in report.checked.items() if count),
            *(f"  {problem}" for problem in report.problems),
        ],
    )
    return EXIT_DONE if report.ok else EXIT_VERIFY


@command.command()
@click.argument("store", shell_complete=store_names)
@json_option
@quiet_option
@click.pass_obj
def repair(home: Home, store: str, as_json: bool, quiet: bool) -> None:
    """Put a damaged STORE right: records from what is known, damaged rows computed again, the rest untouched.

    STORE is its full folder name, finished or not. Every chunk is compared with what was committed.
    """
    from probe.extract import repair as repair_store

    path = store_folder(home, store)
    found, extracted = repair_store(path, home, progress=wants_progress(quiet))
    record = {
        "store": path.name,
        **asdict(found),
        "rows_computed": extracted.rows_computed if extracted else 0,
        "rows_copied": extracted.rows_copied if extracted else 0,
    }
    emit(record, as_json, lambda: _repair_lines(path.name, found, extracted))


def _repair_lines(name: str, found: Repair, extracted: ExtractResult | None) -> list[str]:
    if not found and extracted is None:
        return [f"ok  {name}  nothing to repair"]
    computed = [f"{extracted.rows_computed:,} rows computed again"] if extracted else []
    if extracted and extracted.rows_copied:
        computed.append(f"{extracted.rows_copied:,} rows copied from other stores")
    return [f"repaired  {name}", *(f"  {line}" for line in [*found.lines(), *computed])]


@command.command()
@click.argument("store", shell_complete=store_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(home: Home, store: str, yes: bool) -> int:
    """Delete a STORE, finished or not; its full folder name is required, or ``latest``."""
    name = find_store(home, store).name if places_back(store) is not None else store
    path = store_folder(home, name)
    if not yes and not confirmed(_what(path)):
        return EXIT_FAILED
    note(f"removed {remove_store(home, name)}")
    return EXIT_DONE


def _what(path: Path) -> str:
    """What would be deleted."""
    try:
        manifest = open_store(path).manifest
    except StoreError as error:
        return f"store {path.name}: {error.problem}; {folder_facts(path)}"
    backbone = manifest.spec["backbone"]["name"]
    return f"store {path.name}: {manifest.layout.rows:,} rows of {backbone}; {folder_facts(path)}"
