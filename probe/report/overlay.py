"""Runs and sweeps over one another, found by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from probe.config import Home
from probe.curves import Course
from probe.errors import UnknownNameError, UsageError
from probe.runs import Run, course_of, find_run
from probe.studies.sweep_job import find_sweep, sweep_courses

_TIME = re.compile(r"^[0-9]{8}-[0-9]{6}-")


def find_courses(home: Home, names: Sequence[str]) -> dict[str, Course]:
    """What to call a training -> how it went, in the order of `names`, each a run or a sweep.

    A run is called by its name without the time, where that tells it from the others; a setting of a sweep
    by its own text. UnknownNameError for what is neither, UsageError for a run without a history.
    """
    runs: dict[str, Run] = {}
    found: dict[str, Course] = {}
    for name in names:
        try:
            run = find_run(home, name)
        except UnknownNameError:
            folder = find_sweep(home, name)
            if folder is None:
                raise
            found |= _apart(folder.name, sweep_courses(folder), found)
            continue
        runs[run.name] = run
        found[run.name] = _course(run)
    short = [_TIME.sub("", name) for name in runs]
    called = {name: _TIME.sub("", name) for name in runs if short.count(_TIME.sub("", name)) == 1}
    return {called.get(name, name): course for name, course in found.items()}


def labels_of(runs: Sequence[Run]) -> dict[str, str]:
    """Name of a run -> what to call it among these: the shortest that tells all of them apart."""
    ways: tuple[Callable[[Run], str], ...] = (
        lambda run: run.record.head,
        lambda run: f"{run.record.head} on {run.record.backbone_name or run.record.dataset}",
        lambda run: _TIME.sub("", run.name),
    )
    for call in ways:
        called = {run.name: call(run) for run in runs}
        if len(set(called.values())) == len(runs):
            return called
    return {run.name: run.name for run in runs}


def _course(run: Run) -> Course:
    course = course_of(run)
    if course is None:
        raise UsageError(
            f"run {run.name} has no curves: {run.record.head} is not trained epoch by epoch",
            expected="runs of finetune, baseline, fit dense or fit conv, or sweeps",
        )
    return course


def _apart(sweep: str, courses: dict[str, Course], others: dict[str, Course]) -> dict[str, Course]:
    """Settings that another sweep has as well are called with the name of theirs."""
    return {
        f"{setting} ({sweep})" if setting in others else setting: course
        for setting, course in courses.items()
    }
