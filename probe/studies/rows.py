"""A study with every experiment in a process of its own: on this machine, several at a time, or on a cluster.

The memory of a network, of its graphs and of cached pictures is given back with the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from probe.children import ChildError, Children
from probe.cluster import connect
from probe.config import Home
from probe.machine import visible_gpus
from probe.progress import Progress
from probe.records import plain, read_record
from probe.studies.recipe import Recipe
from probe.studies.reproduce import Plan, Verdict, check_plan, not_here, not_run
from probe.workers import PREFIX, take_share

Say = Callable[[str], None]
"""Takes a line that a process writes to stderr."""


@dataclass(frozen=True)
class Rows:
    """How experiments are run in processes.

    Attributes
    ----------
    module : what ``python -m`` runs there; it answers a `question` with the verdicts as `Verdict.to_json`.
    extra : what the question says besides experiment, plan and home.
    jobs : experiments at a time on this machine.
    dask : address of a Dask scheduler, whose workers start the processes instead.
    """

    module: str
    extra: Mapping[str, Any]
    jobs: int = 1
    dask: str | None = None


def reproduce_in_processes(
    recipes: Sequence[Recipe],
    plan: Plan,
    home: Home,
    rows: Rows,
    *,
    say: Callable[[Recipe, str], None],
    progress: bool = False,
) -> Generator[Verdict, None, None]:
    """Run what can be run here, and account for every experiment: the verdicts as they are reached.

    They come in the order of `recipes`, whatever runs when, see `probe.studies.reproduce.verdicts_of`. `say`
    takes what the process of an experiment on this machine writes to stderr. One that ends without an answer
    is a verdict that says so. All end when the generator is closed. Raises as `probe.cluster.connect`.
    """
    check_plan(recipes, plan)
    home = Home(home.root.resolve())
    known = [not_here(recipe, plan, home) for recipe in recipes]
    asked = [recipe for recipe, found in zip(recipes, known, strict=True) if not found]
    questions = [
        (question(recipe, plan, home, rows), lambda line, r=recipe: say(r, line)) for recipe in asked
    ]
    run = _on_this_machine if rows.dask is None or not asked else _on_cluster
    with (
        closing(run(rows, questions)) as answers,
        Progress("reproduce", len(recipes), "experiments", shown=progress) as bar,
    ):
        for recipe, found in zip(recipes, known, strict=True):
            yield from found or _verdicts(next(answers), recipe, plan)
            bar.update()


def question(recipe: Recipe, plan: Plan, home: Home, rows: Rows) -> dict[str, Any]:
    """What a process is asked, as JSON; `asked_for` reads it there."""
    own = {name: data for name, data in plan.data.items() if name == recipe.data}
    return {
        "recipe": plain(recipe),
        "plan": plain(replace(plan, data=own)),
        "home": str(home.root),
        # What a data set is called may be a path from here.
        "folder": str(Path.cwd()),
        **rows.extra,
    }


def asked_for(question: Mapping[str, Any]) -> tuple[Recipe, Plan, Home]:
    """Experiment, plan and home of a `question`; from here on the folder is that of the one who asks.

    Where experiments run side by side, this process takes its share of the processors first.
    """
    if question.get("share"):
        folder, count, devices = question["share"]
        take_share(folder, count, devices, os.getppid())
    os.chdir(question["folder"])
    recipe = read_record(Recipe, {**question["recipe"], "sweep": []})
    sweep = tuple((name, tuple(values)) for name, values in question["recipe"]["sweep"])
    return (
        replace(recipe, sweep=sweep),
        read_record(Plan, question["plan"]),
        Home(Path(question["home"])),
    )


Questions = Sequence[tuple[Mapping[str, Any], Say]]


def _on_this_machine(rows: Rows, questions: Questions) -> Generator[dict[str, Any], None, None]:
    with (
        TemporaryDirectory(prefix=PREFIX) as folder,
        # The children end first: the pool waits for the threads that wait for them.
        ThreadPoolExecutor(rows.jobs) as pool,
        Children() as children,
    ):
        share = [folder, rows.jobs, [gpu.device for gpu in visible_gpus()]] if rows.jobs > 1 else None
        futures = [
            pool.submit(_ask, children, rows.module, {**what, "share": share}, say) for what, say in questions
        ]
        for future in futures:
            yield future.result()


def _on_cluster(rows: Rows, questions: Questions) -> Generator[dict[str, Any], None, None]:
    assert rows.dask is not None
    with connect(rows.dask) as client:
        futures = [client.submit(_ask_there, rows.module, what, pure=False) for what, _ in questions]
        for future in futures:
            yield future.result()


def _ask(children: Children, module: str, what: Mapping[str, Any], say: Say) -> dict[str, Any]:
    try:
        return {"verdicts": children.ask(module, what, say=say)}
    except ChildError as error:
        return {"problem": error.problem + (f": {error.found}" if error.found else "")}


def _ask_there(module: str, what: Mapping[str, Any]) -> dict[str, Any]:
    """On a worker, where nobody reads along."""
    with Children() as children:
        return _ask(children, module, what, lambda line: None)


def _verdicts(answer: Mapping[str, Any], recipe: Recipe, plan: Plan) -> list[Verdict]:
    if "problem" in answer:
        return not_run(
            recipe, plan.data.get(recipe.data, recipe.data), answer["problem"], recipe.command_lines
        )
    return [Verdict.from_json(verdict) for verdict in answer["verdicts"]]
