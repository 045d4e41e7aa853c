"""What a page shows of a store: the map of its embeddings, and the card of its data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import NO_SPLIT, SPLITS, TRAIN, count_parts
from probe.drawing import inline_svg
from probe.report import figures
from probe.report.maps import Map, map_of
from probe.report.page import UNKNOWN, Called, Card, Figure, MapPart, Shown
from probe.report.runs import conflicts_text, copies_text, parted_text
from probe.report.sources import Source, called_by
from probe.report.thumbnails import SHEET_TILES, TILE, by_class, evenly
from probe.runs import Run
from probe.store import IMPORTED
from probe.text import count_of, shapes_text
from probe.units import count_groups

MOST_POINTS, MOST_TILES = 100_000, 2_000
"""Of all maps of a page together."""
LISTED_CLASSES = 300
SAMPLED_CLASSES, SAMPLES = 12, 8


def map_part(
    source: Source, runs: Sequence[Run], labels_of_runs: Mapping[str, str], method: str, maps: int
) -> MapPart:
    """The map of a store, with what runs called its images; one of so many `maps`, which share the room."""
    store, index = source.store, source.store.index
    rows = evenly(source.rows, MOST_POINTS // maps)
    found = map_of(source.features(rows), method)
    labels = np.where(index.labels[rows] < 0, UNKNOWN, index.labels[rows]).astype(np.uint16)
    names = tuple(index.classes.tolist())
    notes = [found.note]
    if len(rows) < len(source.rows):
        notes.append(f"{len(rows):,} of {len(source.rows):,} images are shown, evenly spread.")
    unread = store.manifest.layout.rows - len(source.rows)
    if unread:
        notes.append(f"Without a point, since they could not be read: {count_of(unread, 'image')}.")
    tiles, sheets = np.empty(0, np.uint32), tuple[str, ...]()
    if source.pictures is not None:
        made = source.pictures.sheets(evenly(rows, MOST_TILES // maps))
        tiles, sheets = np.searchsorted(rows, made.rows).astype(np.uint32), made.uris
        if len(tiles) < len(rows):
            notes.append(f"{len(tiles):,} of the points have a picture.")
    splits = (*SPLITS, NO_SPLIT)
    return MapPart(
        store=store.name,
        points=found.points,
        axes=found.axes,
        notes=tuple(notes),
        ids=tuple(index.ids[rows].tolist()),
        classes=labels,
        class_names=names,
        splits=np.array([splits.index(split) for split in index.splits[rows].tolist()], np.uint8),
        split_names=(*SPLITS, "no split"),
        called=tuple(Called(labels_of_runs[run.name], _called_on(run, source, rows)) for run in runs),
        tiles=tiles,
        sheets=sheets,
        tile_side=TILE,
        sheet_tiles=SHEET_TILES,
        still=_still(source, rows, found),
    )


def _still(source: Source, rows: NDArray[np.intp], found: Map) -> Figure:
    """The map of a store as a drawing, by class."""
    names = source.store.index.classes.tolist()
    drawn = figures.draw_map(found.points, source.store.index.labels[rows], names, found.axes)
    return Figure(f"Map of {source.store.name}", inline_svg(drawn, f"map-{source.store.key[:8]}"))


def _called_on(run: Run, source: Source, rows: NDArray[np.intp]) -> NDArray[np.uint16]:
    """(N,) what a run called the points; its classes are numbered as those of the store."""
    classes = np.full(len(rows), UNKNOWN, np.uint16)
    names = {name: label for label, name in enumerate(source.store.index.classes.tolist())}
    numbers = np.array([names.get(name, UNKNOWN) for name in run.record.classes], np.uint16)
    mine, predictions = called_by(run, source)
    places = np.minimum(np.searchsorted(rows, mine), len(rows) - 1)
    there = rows[places] == mine
    classes[places[there]] = numbers[predictions.predicted[there]]
    return classes


def card(source: Source) -> Card:
    """What a store knows of its data set."""
    store, index = source.store, source.store.index
    known = index.labels >= 0
    splits = [split for split in (*SPLITS, NO_SPLIT) if (index.splits == split).any()]
    total = len(index.classes)
    tables = [np.bincount(index.labels[known & (index.splits == s)], minlength=total) for s in splits]
    listed = index.classes[:LISTED_CLASSES].tolist()
    return Card(
        name=str(store.manifest.facts.get("dataset") or store.name),
        facts={name: str(value) for name, value in _card_facts(source).items() if value not in (None, "")},
        splits=tuple(split or "no split" for split in splits),
        counts=tuple((name, tuple(int(t[label]) for t in tables)) for label, name in enumerate(listed)),
        left_out=total - len(listed),
        samples=_samples(source),
    )


def _card_facts(source: Source) -> dict[str, object]:
    store, index = source.store, source.store.index
    manifest, backbone = store.manifest, store.manifest.spec["backbone"]
    copies, conflicts, parted = index.duplicates(), index.label_conflicts(), index.parted_groups()
    computed = f"{backbone['name']} at {backbone['size']} px, {backbone['precision']}"
    return {
        "from": store.origins[-1].get("spec") if store.origins else None,
        "images": f"{manifest.layout.rows:,}",
        "parts": ", ".join(f"{part} {count:,}" for part, count in count_parts(index.splits).items()),
        "classes": len(index.classes) or None,
        "unlabelled": int((index.labels < 0).sum()) or None,
        "could not be read": manifest.unreadable_count or None,
        "copies across splits": copies_text(copies) if copies else "none",
        "under several labels": conflicts_text(len(conflicts)) if conflicts else None,
        "groups": count_groups(index.groups) or None,
        "groups in several parts": parted_text(parted) if parted else None,
        **{name.replace("_", " "): value for name, value in manifest.facts.get("dataset_facts", {}).items()},
        "notes": " ".join(manifest.facts.get("notes", ())),
        "backbone": "imported embeddings" if backbone["name"] == IMPORTED else computed,
        "weights": backbone["weights"],
        "outputs": shapes_text(store.output_shapes),
        "key of the store": store.key,
        "labelling": store.index_hash,
    }


def _samples(source: Source) -> tuple[tuple[str, tuple[Shown, ...]], ...]:
    """Pictures of the first classes, evenly spread over the training part."""
    if source.pictures is None:
        return ()
    index = source.store.index
    rows = source.store.rows(TRAIN)
    rows = rows[index.labels[rows] >= 0]
    found = []
    for mine in list(by_class(index.labels, rows, SAMPLES))[:SAMPLED_CLASSES]:
        shown = tuple(Shown(str(index.ids[r]), source.pictures.uri(r)) for r in mine.tolist())
        found.append((str(index.classes[index.labels[mine[0]]]), shown))
    return tuple(found)
