"""Finding a publisher's files inside whatever folder they were unpacked to, and trusting no name in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from probe.datasets.files import Found, find_images, leads_out
from probe.datasets.row import DatasetRow
from probe.errors import DataError
from probe.text import count_of
from probe.whole import RECORD, read_text

_DEPTH = 3


def find_base(root: Path, markers: Iterable[str]) -> Path | None:
    """The folder, `root` or up to three levels below it, that holds one of `markers`; None without one."""
    level = [root]
    for _ in range(_DEPTH + 1):
        for folder in level:
            if any((folder / marker).exists() for marker in markers):
                return folder
        level = sorted(child for folder in level for child in _folders_in(folder))
    return None


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be listed", found=error.strerror or str(error)
        ) from error


def layout_error(row: DatasetRow, root: Path, problem: str, expected: str) -> DataError:
    """An error about files that are not as the row declares; quotes what the row is not certain of."""
    entries = sorted(entry.name for entry in root.iterdir())[:8] if root.is_dir() else [root.name]
    doubt = "; ".join(row.caveats)
    return DataError(
        f"{row.name}: {problem}",
        expected=expected,
        found=f"{root} with {', '.join(entries)}" if entries else f"{root}, an empty folder",
        hint=f"compare with what is known of this set: {doubt}" if doubt else None,
    )


def read_table(row: DatasetRow, path: Path, columns: int) -> list[list[str]]:
    """The lines of a text file, each split into `columns` words; DataError when one cannot be."""
    try:
        lines = read_text(path, RECORD, follow=True).splitlines()
    except (OSError, ValueError) as error:
        problem = f"{path.name} cannot be read ({error})"
        raise layout_error(row, path.parent, problem, "a text file") from error
    table = [line.split(maxsplit=columns - 1) for line in lines if line.strip()]
    for number, words in enumerate(table, start=1):
        if len(words) != columns:
            raise layout_error(
                row, path.parent, f"line {number} of {path.name} is unusual", f"{columns} words a line"
            )
    return [[word.strip() for word in words] for words in table]


def inner_name(row: DatasetRow, root: Path, name: str) -> str:
    """`name`, when it is a relative path that stays below `root` by its spelling; DataError otherwise."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or not pure.parts:
        raise layout_error(row, root, f"a list names {name!r}", "paths inside the folder of images")
    return str(pure)


def listed_files(root: Path, names: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Those of `names` that may be read below `root`, and notes.

    A file that is not there keeps its place and counts as unreadable. A link that leads out is left out, and
    so are images that are not listed.
    """
    found: Found = find_images(root)
    present = set(found.images)
    outside = {name for name in names if name not in present and leads_out(root, name)}
    kept = [name for name in names if name not in outside]
    extra = len(present - set(names))
    missing = sum(name not in present for name in kept)
    notes = (
        *found.notes(),
        *((f"left out: {count_of(extra, 'image')} not in the publisher's lists",) if extra else ()),
        *((f"{count_of(missing, 'listed file')} not found",) if missing else ()),
    )
    return kept, notes
