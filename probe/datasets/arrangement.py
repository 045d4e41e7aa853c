"""How the folders of a set are meant: as classes, as splits that hold classes, or as nothing.

Decided by evidence: names of splits, depth, and what lies beside what. docs/layouts.md has the table. Where
two readings are possible nothing is chosen: UsageError says both, and ``--layout`` chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from probe.datasets.dataset import NO_SPLIT
from probe.datasets.split_names import (
    BESIDE_PICTURES,
    PICTURES,
    SPLIT_FOLDERS,
    UNLABELLED_FOLDERS,
    split_folders,
)
from probe.errors import UsageError
from probe.text import count_of, few


class Layout(StrEnum):
    """What the user says that folders are; AUTO where the folders say it."""

    AUTO = "auto"
    CLASSES = "classes"
    SPLITS = "splits"
    FLAT = "flat"


@dataclass(frozen=True)
class Placed:
    """One image: its path below the set, its class (``""`` without a label) and its split (``""``: none).

    `folder` is the folder of a split it lies in, as it is spelt.
    """

    path: str
    name: str = ""
    split: str = NO_SPLIT
    folder: str = ""


@dataclass(frozen=True)
class Arrangement:
    """The reading of a set.

    Attributes
    ----------
    inside : the folder that was looked through, ``""`` without one; paths are relative to it.
    images : the images that are read.
    depth : how many folders lie above the class folders.
    notes : what the user should know about the reading.
    """

    inside: str
    images: list[Placed]
    depth: int = 0
    notes: tuple[str, ...] = field(default=())


def arrange(paths: Sequence[str], layout: Layout = Layout.AUTO, *, root: str = "") -> Arrangement:
    """The reading of the images `paths`, relative POSIX paths below a folder that is called `root`.

    Raises UsageError where there are two readings, or where the folders cannot be read as `layout` says.
    """
    if layout is Layout.FLAT:
        return _flat(list(paths), "the images have no labels (--layout flat)")
    inside, kept, beside = _enter(list(paths), root)
    reading = {Layout.AUTO: _decide, Layout.CLASSES: _classes, Layout.SPLITS: _only_splits}[layout](kept)
    note = f"left out: {count_of(beside, 'image')} lying beside the folder {inside}" if beside else ""
    return replace(reading, inside=inside, notes=tuple(filter(None, (note, *reading.notes))))


def _decide(paths: list[str]) -> Arrangement:
    tops, _ = _divide(paths)
    if not tops:
        return _flat(paths, _unlabelled_note(paths))
    splits = split_folders(tops)
    others = [top for top in tops if top not in splits]
    parts = _parts(tops, splits)
    labelled = [part for part in parts if part.is_labelled]
    if not splits:
        return _inverted(tops, paths) or _classes(paths, sure=False)
    if not labelled:
        if set(map(str.lower, others)) - BESIDE_PICTURES:
            return _classes(paths)
        return _splits(paths, parts)
    if others and not _is_published_split(labelled):
        raise _two_readings(labelled, tops)
    return _splits(paths, parts)


def _only_splits(paths: list[str]) -> Arrangement:
    tops, _ = _divide(paths)
    splits = split_folders(tops)
    if not splits:
        raise UsageError(
            "no folder is named after a split",
            expected="folders such as train, val and test",
            found=few(sorted(tops)) or "images that lie in no folder",
            hint="leave out --layout splits",
        )
    return _splits(paths, _parts(tops, splits), sure=True)


def _classes(paths: list[str], *, sure: bool = True) -> Arrangement:
    """The first folder is the class. Unless `sure`, not where the folders hold pictures and their masks."""
    tops, loose = _divide(paths)
    if not tops:
        return _flat(paths, _unlabelled_note(paths))
    if not sure:
        _expect_classes(list(tops), Layout.CLASSES)
    named = sorted(split_folders(tops))
    blank = [] if sure or len(tops) < 2 else [top for top in tops if top.lower() in UNLABELLED_FOLDERS]
    name_of = {top: "" if top in blank else top for top in tops}
    notes = (
        *([f"left out: {count_of(len(loose), 'image')} lying beside the class folders"] if loose else []),
        *([f"read as classes, not as splits: {few(named)} (--layout says otherwise)"] if named else []),
        *(_no_label_note(top, len(tops[top])) for top in blank),
        *_same_inside(tops),
    )
    images = [Placed(path, name_of[path.partition("/")[0]]) for path in paths if "/" in path]
    return Arrangement("", images, notes=notes)


def _same_inside(tops: dict[str, list[str]]) -> list[str]:
    """A word on class folders that hold the same folders, as the parts of a set would."""
    inside = [frozenset(_divide(inner)[0]) for inner in tops.values()]
    if len(inside) < 2 or len(set(inside)) > 1 or len(inside[0]) < 2:
        return []
    return [f"each of the class folders holds {few(sorted(inside[0]))}, which is not looked at"]


@dataclass(frozen=True)
class _Part:
    """A folder of a split, looked through down to `prefix`; `inner` is what lies in the folders there."""

    folder: str
    split: str
    prefix: str
    inner: dict[str, list[str]]

    @property
    def is_labelled(self) -> bool:
        return bool(self.inner) and self.split != NO_SPLIT


def _parts(tops: dict[str, list[str]], splits: dict[str, str]) -> list[_Part]:
    return [_part(folder, splits[folder], tops, splits) for folder in sorted(splits)]


def _part(folder: str, split: str, tops: dict[str, list[str]], splits: dict[str, str]) -> _Part:
    """Looks through ``train/images/`` and ``train/train/``, and through a folder of nothing but folders."""
    elsewhere = {inner for other in splits if other != folder for inner in _divide(tops[other])[0]}
    prefix, paths = f"{folder}/", tops[folder]
    while True:
        inner, loose = _divide(paths)
        if len(inner) != 1 or loose:
            return _Part(folder, split, prefix, inner)
        ((only, below),) = inner.items()
        deeper, beside = _divide(below)
        says_nothing = only.lower() in PICTURES or split_folders([only]).get(only) == split or only == folder
        wraps = bool(deeper) and not beside and only not in elsewhere
        if not (says_nothing or wraps):
            return _Part(folder, split, prefix, inner)
        prefix, paths = f"{prefix}{only}/", below


def _splits(paths: list[str], parts: list[_Part], *, sure: bool = False) -> Arrangement:
    """Folders of splits: their folders are the classes, and a folder without folders has no labels."""
    labelled = [part for part in parts if part.is_labelled]
    if not labelled:
        names = few([part.folder for part in parts])
        kept = [path for path in paths if path.partition("/")[0] in {part.folder for part in parts}]
        reading = _flat(kept, _unlabelled_note(kept))
        said = f"named after splits, without class folders: {names} (--layout classes takes them for classes)"
        return replace(reading, depth=1, notes=(*reading.notes, *_outside(len(paths) - len(kept)), said))
    if not sure:
        _expect_classes([name for part in labelled for name in part.inner], Layout.SPLITS)
    # One part with labels is a labelled set: there is nothing to score it on that its publisher set apart.
    divided = len({part.split for part in labelled}) > 1
    found = {part.folder: part for part in parts}
    images = []
    for path in paths:
        part = found.get(path.partition("/")[0])
        if part is None:
            continue
        name, deeper, _ = path[len(part.prefix) :].partition("/")
        if not part.is_labelled:
            images.append(Placed(path, folder=part.folder))
        elif deeper:
            images.append(Placed(path, name, part.split if divided else NO_SPLIT, part.folder))
    notes = [
        *_outside(len(paths) - len(images)),
        *_spelling_notes(labelled),
        *_unlabelled_parts([part for part in parts if not part.is_labelled], images),
        *([] if divided else [f"only {labelled[0].folder} has labels: a set without a split of its own"]),
        *(_class_differences(labelled) if divided else []),
    ]
    return Arrangement("", images, depth=1, notes=tuple(notes))


def _flat(paths: list[str], note: str) -> Arrangement:
    return Arrangement("", [Placed(path) for path in paths], notes=(note,))


def _inverted(tops: dict[str, list[str]], paths: list[str]) -> Arrangement | None:
    """``cats/train/1.png``: class folders that hold nothing but folders of splits."""
    inside = [_divide(inner) for inner in tops.values()]
    names = [split_folders(folders) for folders, _ in inside]
    only_splits = all(
        not loose and set(folders) == set(known)
        for (folders, loose), known in zip(inside, names, strict=True)
    )
    if not only_splits or len({split for known in names for split in known.values()}) < 2:
        return None
    splits = dict(zip(tops, names, strict=True))
    if any("/" in path for folders, _ in inside for below in folders.values() for path in below):
        raise UsageError(
            f"each of {few(sorted(tops))} holds folders of splits with folders in them",
            expected="one set: splits that hold classes, or classes that hold splits",
            found="either several sets side by side, or classes whose splits are divided further",
            hint="name the folder of one set, or --layout classes: the classes are " + few(sorted(tops)),
        )
    images = []
    for path in paths:
        if "/" in path:
            top, folder, _ = path.split("/", 2)
            images.append(Placed(path, top, splits[top][folder]))
    note = "splits inside the class folders: " + few(sorted({folder for known in names for folder in known}))
    return Arrangement("", images, notes=(*_outside(len(paths) - len(images)), note))


def _enter(paths: list[str], root: str) -> tuple[str, list[str], int]:
    """Down through folders that say nothing: the folder reached, the images in it, how many lie beside."""
    inside: list[str] = []
    beside = 0
    while True:
        tops, loose = _divide(paths)
        if len(tops) != 1:
            break
        ((only, below),) = tops.items()
        if not _says_nothing(only, below, inside[-1] if inside else root):
            break
        inside.append(only)
        beside += len(loose)
        paths = below
    return "/".join(inside), paths, beside


def _says_nothing(only: str, below: list[str], parent: str) -> bool:
    """Whether the only folder of a folder is a wrapping, as archives unpack to, and no class or split."""
    inner, loose = _divide(below)
    if split_folders([only]):
        return len(set(split_folders(inner).values())) > 1
    if not inner:
        return only.lower() in PICTURES or only.casefold() == parent.casefold()
    return not loose or len(inner) > 1 or bool(split_folders(inner))


def _divide(paths: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The paths below each folder, relative to it, and the images that lie in none."""
    folders: dict[str, list[str]] = {}
    loose = []
    for path in paths:
        top, deeper, rest = path.partition("/")
        if deeper:
            folders.setdefault(top, []).append(rest)
        else:
            loose.append(path)
    return folders, loose


def _is_published_split(labelled: list[_Part]) -> bool:
    """Two splits with class folders, some of them the same: no other folder beside them can say otherwise."""
    shared = any(
        set(first.inner) & set(second.inner) and first.split != second.split
        for first in labelled
        for second in labelled
    )
    return shared


def _two_readings(labelled: list[_Part], tops: dict[str, list[str]]) -> UsageError:
    inner = sorted({name for part in labelled for name in part.inner})
    names = few([part.folder for part in labelled])
    return UsageError(
        f"{names} may be a split or a class: it holds folders, and lies beside folders that are no splits",
        expected=f"--layout splits: the classes are {few(inner)}, and other folders are left out",
        found=f"or --layout classes: the classes are {few(sorted(tops))}",
        hint="choose one of them with --layout, or name the folder of the set itself",
    )


def _expect_classes(names: list[str], layout: Layout) -> None:
    """UsageError where folders are named after pictures and what belongs to them (masks, annotations)."""
    lower = {name.lower() for name in names}
    if len(lower) > 1 and lower <= PICTURES | BESIDE_PICTURES:
        few_names = few(sorted(set(names)))
        raise UsageError(
            f"{few_names} may be classes, or pictures and what belongs to them (masks, annotations)",
            expected=f"--layout {layout}: the classes are {few_names}",
            found="or images without labels: name the folder of the pictures itself",
            hint="choose one of them; --labels labels.csv gives the pictures labels",
        )


def _outside(number: int) -> list[str]:
    if not number:
        return []
    return [f"left out: {count_of(number, 'image')} outside the class folders of the splits"]


def _spelling_notes(labelled: list[_Part]) -> list[str]:
    spelt = [f"{part.folder} is read as {part.split}" for part in labelled if part.folder != part.split]
    return ["splits: " + few(spelt)] if spelt else []


def _unlabelled_parts(parts: list[_Part], images: list[Placed]) -> list[str]:
    return [
        f"no class folders in {_no_label_note(part.folder, number)}"
        for part in parts
        if (number := sum(placed.folder == part.folder for placed in images))
    ]


def _no_label_note(folder: str, number: int) -> str:
    has = "has" if number == 1 else "have"
    return f"{folder}: its {count_of(number, 'image')} {has} no label and can only be extracted and predicted"


def _class_differences(labelled: list[_Part]) -> list[str]:
    """Classes that not every split has."""
    classes: dict[str, set[str]] = {}
    for part in labelled:
        classes.setdefault(part.split, set()).update(part.inner)
    notes = []
    for name in sorted(set().union(*classes.values())):
        inside = [split for split, names in classes.items() if name in names]
        if len(inside) < len(classes):
            lacking = [split for split in classes if split not in inside]
            notes.append(f"{name} only in {' and '.join(inside)}, not in {' and '.join(lacking)}")
    if len(notes) > 6:
        notes = [*notes[:6], f"and {len(notes) - 6} more"]
    return ["the splits have different classes: " + "; ".join(notes)] if notes else []


def _unlabelled_note(paths: list[str]) -> str:
    note = "no class folders: the images have no labels (--labels labels.csv gives them)"
    prefixes = {_first_word(path.rpartition("/")[2]) for path in paths} - {""}
    if 2 <= len(prefixes) <= 20 and not prefixes & set(SPLIT_FOLDERS):
        note += f"; labels in file names are not read, and these begin with {few(sorted(prefixes))}"
    return note


def _first_word(file: str) -> str:
    """``cat`` of ``cat.0.jpg``, ``""`` of a name that begins otherwise."""
    stem = file.rpartition(".")[0]
    word = stem.rstrip("0123456789").rstrip("._- ")
    return word.lower() if word.isalpha() and word != stem else ""
