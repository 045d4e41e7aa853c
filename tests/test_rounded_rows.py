"""The copy of standardised rows in bfloat16: what it says, where it lies, and what is done without it."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from contextlib import suppress
from copy import copy
from pathlib import Path

import numpy as np
import pytest

from probe.heads.head import ChosenRows, Samples, stack
from probe.heads.rotation import Rotation
from probe.heads.softmax_loss import StreamedLoss
from probe.heads.softmax_rough import RoughLoss
from probe.heads.softmax_rows import RoundedRows, StreamedRows
from probe.heads.standardise import moments, standardised

ROWS, WIDTH, STEP = 500, 24, 64


class Rows:
    """Rows that lie in a folder, and how many of them were read."""

    def __init__(self, array: np.ndarray, folder: Path | None) -> None:
        self.array, self.shape, self.folder, self.read = array, array.shape, folder, 0

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        found = self.array[rows]
        self.read += len(found)
        return found


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    array = np.random.default_rng(0).normal(3, 2, (ROWS, WIDTH)).astype(np.float32)
    array[:, 5] = 7
    return Rows(array, tmp_path)


def streamed(rows: Rows) -> StreamedRows:
    mean, scale = moments(rows.array)
    return StreamedRows(rows, mean, scale)


def passed(rounded: RoundedRows) -> np.ndarray:
    """The values (N, D) of one pass over all rows."""
    found = np.zeros((ROWS, WIDTH), rounded.dtype)
    for block in rounded.blocks(STEP):
        rounded.write(block, found[block[0]])
    return (found.astype(np.uint32) << 16).view(np.float32)


def test_a_copy_says_what_the_rows_do_to_eight_bits_and_is_all_that_is_read(rows: Rows) -> None:
    source = streamed(rows)
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
    source = streamed(rows)
    passed(source.rounded)
    assert not any(tmp_path.iterdir())
    assert open_in(tmp_path) == 1
    del source
    gc.collect()
    assert open_in(tmp_path) == 0


def test_a_pass_that_ended_early_is_no_copy(rows: Rows) -> None:
    rounded = streamed(rows).rounded
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
    usage = shutil.disk_usage("/")._replace(free=2 * ROWS * WIDTH)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = os.pwrite, []

    def some(file: int, content: memoryview, start: int) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(start)
        # Half of what was asked for, as systems may.
        return write(file, content[: max(1, len(content) // 2)], start)

    monkeypatch.setattr("os.pwrite", some)


def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Rows, "folder", property(lambda self: Path("/nowhere"), lambda self, folder: None), False
    )


@pytest.mark.parametrize("without", [no_room, full_disk, no_folder])
def test_without_a_copy_every_pass_is_of_the_rows_and_says_the_same(
    without, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).normal(3, 2, (ROWS, WIDTH)).astype(np.float32)
    expected = passed(streamed(Rows(array, tmp_path)).rounded)
    without(monkeypatch)
    rows = Rows(array, tmp_path)
    rounded = streamed(rows).rounded
    for number in (1, 2, 3):
        assert np.array_equal(passed(rounded), expected)
        assert rows.read == number * ROWS
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cannot be read", "ends early"])
def test_a_copy_that_fails_is_given_up_and_the_rows_are_read(
    rows: Rows, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = streamed(rows).rounded
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


def test_looks_by_a_copy_and_by_the_rows_are_the_same_bits(rows: Rows) -> None:
    """Also in blocks of another size, which only rounding of the sums tells apart."""
    classes, labels = 6, np.arange(ROWS) % 6
    rotation = Rotation.of(rows.array)
    seen = []
    for folder in (rows.folder, None):
        loss = RoughLoss(StreamedLoss(Rows(rows.array, folder), rotation, labels, classes))
        point = np.random.default_rng(1).standard_normal((len(loss.variance), 1, classes)).astype(np.float32)
        looks = [loss.look(point, np.zeros_like(point), np.ones(1)) for _ in range(2)]
        assert np.array_equal(looks[0].gradient, looks[1].gradient)
        seen.append(looks[0])
    assert np.array_equal(seen[0].gradient, seen[1].gradient)
    assert seen[0].loss == seen[1].loss


def test_chosen_and_stacked_rows_say_where_they_lie(rows: Rows) -> None:
    labels = np.zeros(ROWS, np.int64)
    both = stack(Samples(rows, labels), Samples(rows, labels))
    assert both.features.folder == rows.folder
    assert ChosenRows(both.features, np.arange(3)).folder == rows.folder
    assert ChosenRows(rows.array, np.arange(3)).folder is None


def test_another_process_makes_a_copy_of_its_own(rows: Rows) -> None:
    source = streamed(rows)
    expected = passed(source.rounded)
    # As it is handed over.
    again = copy(source)
    assert np.array_equal(passed(again.rounded), expected)
    assert rows.read == 2 * ROWS
