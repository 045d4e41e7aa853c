"""Images as points for other programs: embedding-atlas, FiftyOne, DuckDB, pandas and TensorBoard."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.arrow import load_pyarrow
from probe.durable import replacing
from probe.errors import UsageError
from probe.report.maps import map_of
from probe.report.sources import Source, called_by
from probe.report.thumbnails import sheet
from probe.runs import Run
from probe.store.files import disk_errors

PARQUET = ".parquet"
BLOCK = 512
SIDE = 96
"""Longer side of the pictures in a parquet file."""
TILE, MOST_TILES = 32, 10_000
"""Of the one picture that TensorBoard has of all points; browsers take 8192 pixels a side."""
VECTORS, METADATA, SPRITE, CONFIG = "vectors.tsv", "metadata.tsv", "sprite.png", "projector_config.pbtxt"


@dataclass(frozen=True)
class Points:
    """What was written, and the command that opens it."""

    file: str
    points: int
    columns: tuple[str, ...]
    pictures: int
    open_with: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        return [
            f"points    {self.points:,}, {self.pictures:,} with a picture",
            f"columns   {', '.join(self.columns)}",
            f"file      {self.file}",
            f"open      {self.open_with}",
        ]


@dataclass(frozen=True)
class _Said:
    """What a run said about rows: class and its probability, "" and NaN where it was not scored."""

    called: NDArray[np.object_]
    probability: NDArray[np.float32]


def check_points(path: Path) -> None:
    """UsageError unless points can be written to `path`: a new ``.parquet``, or a new folder."""
    if path.suffix not in ("", PARQUET):
        raise UsageError(
            f"points cannot be written to {path}",
            expected="a name ending in .parquet, or a folder for TensorBoard's projector",
        )
    if path.exists() or path.is_symlink():
        raise _there_already(path)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")
    if path.suffix:
        load_pyarrow()


def write_points(source: Source, run: Run | None, path: Path, *, method: str, pictures: bool) -> Points:
    """Write every image of a store that was read, and what `run` said of those that it was scored on.

    Parameters
    ----------
    method : of the map, see `probe.report.maps.MAPS`.
    pictures : whether small pictures go into it, where the data set can be read.

    Raises UsageError as `check_points`, StoreError when it cannot be written.
    """
    check_points(path)
    places = map_of(source.features(source.rows), method).points
    said = _said(source, run)
    write = _write_parquet if path.suffix else _write_projector
    try:
        with disk_errors(path.parent), replacing(path) as temporary:
            return write(source, said, places, temporary, path, pictures and source.pictures is not None)
    except OSError as error:
        # Another process has been faster.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _there_already(path) from error
        raise


def _there_already(path: Path) -> UsageError:
    return UsageError(f"{path} is there already", hint="remove it, or name another with --output")


def _said(source: Source, run: Run | None) -> _Said:
    called = np.full(len(source.rows), "", object)
    probability = np.full(len(source.rows), np.nan, np.float32)
    if run is not None:
        rows, predictions = called_by(run, source)
        places = np.searchsorted(source.rows, rows)
        names = np.array(run.record.classes, object)
        called[places] = names[predictions.predicted]
        probability[places] = predictions.probabilities.max(axis=1)
    return _Said(called, probability)


def _labels(source: Source, rows: NDArray[np.intp]) -> list[str | None]:
    names, labels = source.store.index.classes.tolist(), source.store.index.labels[rows].tolist()
    return [names[label] if label >= 0 else None for label in labels]


def _blocks(source: Source) -> Iterator[tuple[slice, NDArray[np.intp], NDArray[np.float32]]]:
    """(places, rows, (n, D) vectors) one after the other."""
    features = source.features(source.rows)
    for start in range(0, len(source.rows), BLOCK):
        where = slice(start, min(start + BLOCK, len(source.rows)))
        yield where, source.rows[where], features[where]


def _write_parquet(
    source: Source, said: _Said, places: NDArray[np.float32], temporary: Path, path: Path, pictures: bool
) -> Points:
    arrow, shown = load_pyarrow(), 0
    kinds: dict[str, Any] = {
        "id": arrow.string(),
        "label": arrow.string(),
        "split": arrow.string(),
        "prediction": arrow.string(),
        "probability": arrow.float32(),
        "x": arrow.float32(),
        "y": arrow.float32(),
        "vector": arrow.list_(arrow.float32(), source.features(source.rows[:1]).shape[1]),
    }
    if pictures:
        kinds["image"] = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    schema, index = arrow.schema(list(kinds.items())), source.store.index
    with arrow.parquet.ParquetWriter(temporary, schema) as writer:
        for where, rows, vectors in _blocks(source):
            columns: dict[str, Any] = {
                "id": index.ids[rows].tolist(),
                "label": _labels(source, rows),
                "split": [split or None for split in index.splits[rows].tolist()],
                "prediction": [name or None for name in said.called[where].tolist()],
                "probability": [None if np.isnan(p) else p for p in said.probability[where].tolist()],
                "x": places[where, 0],
                "y": places[where, 1],
                "vector": arrow.FixedSizeListArray.from_arrays(
                    arrow.array(np.ascontiguousarray(vectors, np.float32).reshape(-1)), vectors.shape[1]
                ),
            }
            if pictures:
                columns["image"] = _encoded(source, rows)
                shown += sum(picture is not None for picture in columns["image"])
            plain = [name for name in kinds if name != "vector"]
            columns |= {name: arrow.array(columns[name], kinds[name]) for name in plain}
            arrays = [columns[name] for name in kinds]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
    image = " --image image" if pictures else ""
    opens = f"embedding-atlas {path} --vector vector --x x --y y{image}"
    return Points(str(path), len(source.rows), tuple(kinds), shown, opens)


def _encoded(source: Source, rows: NDArray[np.intp]) -> list[Mapping[str, Any] | None]:
    """Pictures as Hugging Face's data sets have them: ``{bytes, path}``, None where one cannot be read."""
    found: list[Mapping[str, Any] | None] = []
    for row, name in zip(rows.tolist(), source.store.index.ids[rows].tolist(), strict=True):
        picture = source.pictures.small(row, SIDE) if source.pictures is not None else None
        if picture is None:
            found.append(None)
            continue
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, "JPEG", quality=85)
        found.append({"bytes": encoded.getvalue(), "path": name})
    return found


def _write_projector(
    source: Source, said: _Said, places: NDArray[np.float32], temporary: Path, path: Path, pictures: bool
) -> Points:
    temporary.mkdir()
    pictures = pictures and len(source.rows) <= MOST_TILES
    columns = ("id", "label", "split", "prediction")
    index = source.store.index
    with (
        (temporary / VECTORS).open("w", encoding="utf-8") as vectors_file,
        (temporary / METADATA).open("w", encoding="utf-8") as metadata_file,
    ):
        metadata_file.write("\t".join(columns) + "\n")
        for where, rows, vectors in _blocks(source):
            np.savetxt(vectors_file, vectors, fmt="%.7g", delimiter="\t")
            texts = zip(
                index.ids[rows].tolist(),
                _labels(source, rows),
                index.splits[rows].tolist(),
                said.called[where].tolist(),
                strict=True,
            )
            for line in texts:
                metadata_file.write("\t".join(_cell(text) for text in line) + "\n")
    if pictures:
        _sprite(source).save(temporary / SPRITE)
    (temporary / CONFIG).write_text(_projector_config(source, pictures), encoding="utf-8")
    opens = f"tensorboard --logdir {path}"
    return Points(str(path), len(source.rows), columns, len(source.rows) if pictures else 0, opens)


def _cell(text: str | None) -> str:
    """A tab or the end of a line would begin another cell."""
    return " ".join((text or "").split())


def _sprite(source: Source) -> Image.Image:
    """Every picture row by row on black; a black square where one cannot be read."""
    assert source.pictures is not None
    tiles = [source.pictures.small(row, TILE) for row in source.rows.tolist()]
    side = max(1, int(np.ceil(np.sqrt(len(tiles)))))
    return Image.fromarray(sheet(tiles, TILE, side)).convert("RGB")


def _projector_config(source: Source, pictures: bool) -> str:
    """What TensorBoard reads, a text of protocol buffers."""
    lines = [
        "embeddings {",
        f"  tensor_name: {json.dumps(source.store.name, ensure_ascii=True)}",
        f'  tensor_path: "{VECTORS}"',
        f'  metadata_path: "{METADATA}"',
    ]
    if pictures:
        lines += [f'  sprite {{ image_path: "{SPRITE}" single_image_dim: {TILE} single_image_dim: {TILE} }}']
    return "\n".join([*lines, "}", ""])
