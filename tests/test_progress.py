"""Progress: a bar with an estimate on a terminal, plain lines elsewhere, nothing when it is not wanted."""

from __future__ import annotations

import os
import pty
import sys
import time
from contextlib import contextmanager

import pytest

from probe import progress
from probe.commands.options import note
from probe.progress import Progress, counting, describe, duration, expect, in_notebook, step

END = "<end>"


@contextmanager
def a_terminal(monkeypatch):
    """stderr is a real terminal meanwhile; the list that is given holds afterwards what was written."""
    written = []
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield written
        # A terminal hands over what was written in its own time: read up to a mark.
        stream.write(END)
        stream.flush()
        text = ""
        while not text.endswith(END):
            text += os.read(master, 1 << 16).decode()
        written.append(text)
    os.close(master)


@pytest.fixture
def at_once(monkeypatch):
    """Plain lines without waiting."""
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (3725, "1 h 02 min")]
)
def test_durations_are_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_estimate_leaves_out_what_had_been_done_before():
    assert describe(40, 100, "img", 10.0) == "40 of 100 img (40 %), 10 s, about 15 s left"
    assert describe(40, 100, "img", 10.0, initial=20) == "40 of 100 img (40 %), 10 s, about 30 s left"
    assert describe(20, 100, "img", 10.0, initial=20) == "20 of 100 img (20 %), 10 s"
    assert describe(100, 100, "img", 10.0) == "100 of 100 img (100 %), 10 s"
    assert describe(0, None, "", 10.0) == "10 s"
    assert describe(5_000_000, 20_000_000, "B", 1.0, in_bytes=True) == (
        "5.0 MB of 20.0 MB (25 %), 1 s, about 3 s left"
    )


def test_elsewhere_it_is_plain_lines_with_the_last_one_of_the_end(at_once, capsys):
    with Progress("sweep", 3, "cells") as done:
        for _ in range(3):
            done.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("sweep: 1 of 3 cells (33 %), 0 s, about 0 s left")
    assert lines[-1].startswith("sweep: 3 of 3 cells (100 %)")


def test_short_work_and_unwanted_progress_are_silent(capsys, at_once, monkeypatch):
    with Progress("fit", 3, shown=False) as done:
        done.update(3)
    monkeypatch.setattr(progress, "FIRST_S", 60.0)
    with Progress("fit", 3) as done:
        done.update(3)
    assert capsys.readouterr().err == ""


def test_a_log_has_no_more_lines_than_the_clock_allows(monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    with Progress("fit", 500, "steps") as done:
        for _ in range(500):
            done.update()
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_step_that_takes_long_is_not_silent(at_once, monkeypatch, capsys):
    monkeypatch.setattr(progress, "BEAT_S", 0.01)
    with Progress("head start"):
        said = ""
        while "head start: 0 s" not in said:
            said += capsys.readouterr().err
            time.sleep(0.01)


def test_on_a_terminal_it_is_a_bar_and_notes_stand_above_it(monkeypatch):
    with a_terminal(monkeypatch) as written, Progress("extract", 40, "img") as done:
        done.update(10)
        note("a remark")
        done.update(30)
    (text,) = written
    first, _, rest = text.partition("a remark")
    assert "extract" in first
    assert "/40 [" in first
    assert first.endswith("\r"), "the bar is cleared before the line is written"
    assert "/40 [" in rest, "it is drawn again below"


def test_work_deep_inside_counts_on_what_is_open_and_on_nothing_else(at_once, capsys):
    step()  # nothing is open
    with Progress("outer", unit="fits") as outer, counting(outer):
        expect(3)
        step()
        with counting(None):
            expect(100)
            step(50)
        step(2)
    assert outer.n == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("outer: 3 of 3 fits (100 %)")


def test_what_becomes_known_on_the_way_moves_the_end_of_a_bar(monkeypatch):
    with a_terminal(monkeypatch) as written, Progress("fit", unit="fits") as bar, counting(bar):
        expect(4)
        step(2)
        time.sleep(0.7)
    assert "2/4" in written[0]


def test_lines_go_past_a_stderr_that_points_elsewhere(at_once, capsys):
    reading, writing = os.pipe()
    with progress.shown_on(writing), Progress("extract", 2, "img") as bar:
        bar.update(2)
    os.close(writing)
    with os.fdopen(reading) as screen:
        assert screen.read().startswith("extract: 2 of 2 img (100 %), 0 s\n")
    assert capsys.readouterr().err == ""
    with Progress("extract", 2, "img") as bar:
        bar.update(2)
    assert capsys.readouterr().err.startswith("extract: 2 of 2 img (100 %), 0 s\n")


def test_outside_of_a_kernel_there_are_no_widgets():
    assert not in_notebook()
