"""A head on a store -> a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probe.heads.head import HeadRow
from probe.machine import usable_cpus
from probe.runs import Run, RunError, expect_free_name, name_run
from probe.text import parse_bytes
from probe.workspace.context import Context
from probe.workspace.keywords import at_least

if TYPE_CHECKING:
    from probe.fit import FitJob
    from probe.store import Store


@dataclass(frozen=True)
class FitKeywords:
    """What every head takes, by the names and with the defaults of the options of ``probe fit``.

    Attributes
    ----------
    output : stored outputs, side by side; empty takes the store's first.
    views : stored views of each training image to train on beside the plain one.
    average_views : average test probabilities over stored views.
    shots : few-shot curve, images per class, ``all`` for all of them; empty for none.
    train_fraction : learning curve, shares of the training part; empty for none.
    repeats : draws of each size of a curve.
    drop_small_classes : leave out classes of fewer training images.
    dask : address of a cluster for folds and curves.
    memory : features that take more than this, ``"2GB"``, with what a fit holds beside them, are streamed.
    refit : fit the choice on train + validation, where the head's row says that this is sound.
    reuse : give the finished run of this very fit, if there is one, in place of another.
    name, note : what the run is called, and what is to be said of it.
    """

    output: tuple[str, ...] = ()
    views: int = 0
    average_views: bool = False
    shots: tuple[str | int, ...] = ()
    train_fraction: tuple[float, ...] = ()
    repeats: int = 5
    drop_small_classes: int | None = None
    dask: str | None = None
    memory: str = "2GB"
    refit: bool = True
    reuse: bool = False
    name: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        at_least(0, views=self.views)
        at_least(1, repeats=self.repeats, drop_small_classes=self.drop_small_classes)


def choose_store(context: Context, named: Store | str | None, wanted: FitKeywords) -> Store:
    """The store that is meant; of several the newest that has labels and what is asked for."""
    from probe.fit import serves_fit
    from probe.workspace.stores import take_store

    return take_store(context, named, serves_fit(_choice(wanted)))


def fit(context: Context, row: HeadRow, store: Store, wanted: FitKeywords, options: Any) -> Run:
    """Choose on validation, score the test split once, keep the run.

    `options` is an instance of the row's own dataclass. FitError when the data cannot be fitted on,
    NotKeptError with the result when it cannot be written.
    """
    from probe.fit import finished_fit, fit

    if wanted.name:
        expect_free_name(context.home, wanted.name)
    job = fit_job(context, row, store, wanted, options)
    done = finished_fit(job, context.home) if wanted.reuse else None
    if done is not None:
        context.say(f"run {done.name} is this very fit: not repeated")
    run = done or fit(job, context.home)
    try:
        return name_run(context.home, run, name=wanted.name, note=wanted.note)
    except RunError as error:
        context.say(f"run {run.name} is kept without its name and note (probe runs name, note): {error}")
        return run


def fit_job(context: Context, row: HeadRow, store: Store, wanted: FitKeywords, options: Any) -> FitJob:
    """What `fit` does, as a job with an identity."""
    from probe.fit import FitJob

    return FitJob(
        store=store,
        head=row.name,
        choice=_choice(wanted),
        options=options,
        refit=wanted.refit,
        average_views=wanted.average_views,
        shots=tuple(map(str, wanted.shots)),
        fractions=wanted.train_fraction,
        repeats=wanted.repeats,
        jobs=usable_cpus(),
        dask=wanted.dask,
        progress=context.progress,
        drop_small_classes=wanted.drop_small_classes or 0,
    )


def _choice(wanted: FitKeywords) -> Any:
    from probe.fit import Choice

    return Choice(wanted.output, wanted.views, parse_bytes(wanted.memory, "--memory"))
