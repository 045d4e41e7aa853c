"""The copy of standardised rows in bfloat16: what it says, where it lies, and what is done without it."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from probe.heads import HEADS
from probe.heads.crossval import CrossValidator
from probe.heads.draws import stratified_folds
from probe.heads.head import Samples, stack
from probe.heads.logreg import LogregOptions
from probe.heads.rotation import Rotation
from probe.heads.softmax_rough import streamed_loss
from probe.heads.softmax_rows import RoundedRows, StreamedRows
from probe.heads.standardise import moments, standardised

ROWS, WIDTH, STEP = 500, 24, 64


class Rows:
    """Rows that are not an array, and how many of them were read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.read = array, array.shape, 0

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        found = self.array[rows]
        self.read += len(found)
        return found


@pytest.fixture
def rows() -> Rows:
    array = np.random.default_rng(0).normal(3, 2, (ROWS, WIDTH)).astype(np.float32)
    array[:, 5] = 7
    return Rows(array)


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every streamed problem be worth it, on any machine."""
    monkeypatch.setattr("probe.heads.softmax_rough.is_bfloat16_faster", lambda width, columns: True)


def streamed(rows: Rows, folder: Path | None) -> StreamedRows:
    mean, scale = moments(rows.array)
    return StreamedRows(rows, mean, scale, folder)


def passed(rounded: RoundedRows) -> np.ndarray:
    """The values (N, D) of one pass over all rows."""
    found = np.zeros((ROWS, WIDTH), rounded.dtype)
    for block in rounded.blocks(STEP):
        rounded.write(block, found[block[0]])
    return (found.astype(np.uint32) << 16).view(np.float32)


def test_a_copy_says_what_the_rows_do_to_eight_bits_and_is_all_that_is_read(
    rows: Rows, tmp_path: Path
) -> None:
    source = streamed(rows, tmp_path)
    exact = standardised(rows.array, source.mean, source.scale)
    first = passed(source.rounded)
    assert (np.abs(first - exact) <= 2.0**-8 * np.abs(exact)).all()
    assert (first[:, 5] == 0).all()
    assert rows.read == ROWS
    for _ in range(2):
        assert np.array_equal(passed(source.rounded), first)
    assert rows.read == ROWS


def open_in(folder: Path) -> int:
    """Files below a folder that this process has open, with names or without."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(file.readlink()).startswith(f"{folder}/")
    return found


def test_a_copy_has_no_name_and_no_room_when_nothing_reads_it(rows: Rows, tmp_path: Path) -> None:
    source = streamed(rows, tmp_path)
    passed(source.rounded)
    assert not any(tmp_path.iterdir())
    assert open_in(tmp_path) == 1
    del source
    gc.collect()
    assert open_in(tmp_path) == 0


def test_a_pass_that_ended_early_is_no_copy(rows: Rows, tmp_path: Path) -> None:
    rounded = streamed(rows, tmp_path).rounded
    for number, block in enumerate(rounded.blocks(STEP)):
        rounded.write(block, np.empty((block[0].stop - block[0].start, WIDTH), rounded.dtype))
        if number == 2:
            break
    rows.read = 0
    whole = passed(rounded)
    assert rows.read == ROWS
    assert np.array_equal(passed(rounded), whole)
    assert rows.read == ROWS


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    few = SimpleNamespace(free=2 * ROWS * WIDTH)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: few)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = os.pwrite, []

    def some(file: int, content: memoryview, start: int) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(start)
        # Half of what was asked for, as systems may.
        return write(file, content[: max(1, len(content) // 2)], start)

    monkeypatch.setattr("os.pwrite", some)


def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**given: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuses)


def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(folder / "gone"))


@pytest.mark.parametrize("without", [no_room, full_disk, no_files, gone])
def test_without_a_copy_every_pass_is_of_the_rows_and_says_the_same(
    rows: Rows, without: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = passed(streamed(rows, tmp_path).rounded)
    without(monkeypatch)
    rounded = streamed(rows, tmp_path).rounded
    for number in (2, 3, 4):
        assert np.array_equal(passed(rounded), expected)
        assert rows.read == number * ROWS
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cannot be read", "ends early"])
def test_a_copy_that_fails_is_given_up_and_the_rows_are_read(
    rows: Rows, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = streamed(rows, tmp_path).rounded
    expected = passed(rounded)
    read, calls = os.preadv, []

    def fails(file: int, buffers: list[memoryview], start: int) -> int:
        calls.append(start)
        if len(calls) < 3:
            return read(file, buffers, start)
        if damage == "ends early":
            return 0
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.preadv", fails)
    rows.read = 0
    assert np.array_equal(passed(rounded), expected)
    assert 0 < rows.read < ROWS
    rows.read = 0
    assert np.array_equal(passed(rounded), expected)
    assert rows.read == ROWS
    assert len(calls) == 3


@pytest.mark.usefixtures("rough")
def test_looks_by_a_copy_and_by_the_rows_are_the_same_bits(rows: Rows, tmp_path: Path) -> None:
    classes, labels = 6, np.arange(ROWS) % 6
    rotation = Rotation.of(rows.array)
    seen = []
    for folder in (tmp_path, None):
        loss = streamed_loss(rotation, Samples(rows, labels, folder=folder), classes, None)
        point = np.random.default_rng(1).standard_normal((len(loss.variance), 1, classes)).astype(np.float32)
        rows.read = 0
        seen += [loss.look(point, np.zeros_like(point), np.ones(1)) for _ in range(3)]
        assert rows.read == (ROWS if folder else 3 * ROWS)
    for look in seen[1:]:
        assert np.array_equal(look.gradient, seen[0].gradient)
        assert np.array_equal(look.loss, seen[0].loss)


@pytest.mark.usefixtures("rough")
def test_folds_that_are_streamed_share_a_copy(rows: Rows, tmp_path: Path) -> None:
    labels = np.arange(ROWS) % 4
    samples = Samples(rows, labels, folder=tmp_path)
    validator = CrossValidator(samples, 4, stratified_folds(labels, 3), tolerance=0.1)
    validator.run((1e-4,))
    assert open_in(tmp_path) == 1
    validator.run((1e-3,))
    assert open_in(tmp_path) == 1


@pytest.mark.usefixtures("rough")
def test_no_copy_outlives_its_fit(rows: Rows, tmp_path: Path) -> None:
    labels = np.arange(ROWS) % 4
    gc.collect()
    gc.disable()  # of gigabytes that only a search for garbage would free nobody could be sure
    try:
        for options in (LogregOptions(c=(0.1,)), LogregOptions(c=(0.1, 1.0), cv=3)):
            HEADS["logreg"].fit(Samples(rows, labels, folder=tmp_path), None, 4, options)
            assert open_in(tmp_path) == 0
    finally:
        gc.enable()


def test_rows_below_one_another_are_copied_to_the_same_place(rows: Rows, tmp_path: Path) -> None:
    part = Samples(rows, np.zeros(ROWS, np.int64), folder=tmp_path)
    assert stack(part, part).folder == tmp_path


def test_another_process_makes_a_copy_of_its_own(rows: Rows, tmp_path: Path) -> None:
    source = streamed(rows, tmp_path)
    expected = passed(source.rounded)
    # As it is handed over.
    again = copy(source)
    assert np.array_equal(passed(again.rounded), expected)
    assert rows.read == 2 * ROWS
