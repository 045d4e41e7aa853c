"""The command lines that make a store and a run again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from probe.backbones import BACKBONES
from probe.finetune.plan import TuneSettings
from probe.heads import HEADS
from probe.registry import load_object
from probe.runs import Run
from probe.runs.record import FitFacts, TrainFacts, TuneFacts
from probe.store import IMPORTED, Store

_DATA_FLAGS = {
    "labels": "--labels",
    "split": "--split",
    "seed": "--split-seed",
    "source": "--from",
    "validation": "--validation",
    "drop_duplicates": "--drop-duplicates",
    "limit": "--limit",
    "columns": "--columns",
    "layout": "--layout",
    "follow_links": "--follow-links",
}
"""Field of `probe.datasets.DatasetOptions` -> the option that sets it."""

NEVER_TOLD = {"jobs"}
"""Options of heads that change no result."""


def extract_line(store: Store) -> str | None:
    """``probe extract …`` of a store; None for a prefix cache, and for embeddings computed elsewhere."""
    spec = store.manifest.spec
    backbone, views = spec["backbone"], spec.get("views")
    if backbone["name"] == IMPORTED or store.manifest.layout.internal:
        return None
    words: dict[str, Any] = {
        **_network_flags(backbone, store.manifest.facts.get("weights_path")),
        "--size": backbone["size"],
        "--precision": backbone["precision"],
        "--outputs": store.outputs,
        "--engine": backbone.get("engine"),
    }
    if str(backbone["weights"]).startswith("random"):
        words["--weights"] = ":".join(str(backbone["weights"]).split(":")[:2])
    if spec["pixels"].get("exif"):
        words["--exif"] = True
    if spec["dtype"] != "float32":
        words["--store-dtype"] = spec["dtype"]
    if views:
        words["--views"] = views.get("count", store.view_count)
    origin = store.origins[-1] if store.origins else {}
    return _line(["probe", "extract"], words | data_flags(origin), origin.get("spec", "DATASET"))


def _network_flags(backbone: Mapping[str, Any], file: str | None) -> dict[str, Any]:
    """Which network: a name, or a file, of which it has to be said what values it takes."""
    if backbone["name"] in BACKBONES or file is None:
        return {"--backbone": backbone["name"]}
    return {"--backbone": file, "--preprocess": backbone["preprocess"]}


def data_flags(origin: Mapping[str, Any]) -> dict[str, Any]:
    """The options with which a data set was opened, as flags."""
    options = origin.get("options", {})
    return {flag: options[name] for name, flag in _DATA_FLAGS.items() if name in options}


def run_line(run: Run, store: Store | None) -> str | None:
    """The command of a run; None for a kind of run that this version does not know."""
    facts = run.record.facts
    match facts:
        case FitFacts():
            return _fit_line(run, facts)
        case TuneFacts():
            return _tune_line(run, facts, store)
        case TrainFacts():
            words = {
                "--data": run.record.dataset,
                "--epochs": facts.epochs.planned,
                "--precision": facts.precision,
                "--limit": facts.limit,
            }
            return _line(["probe", "baseline", "run", run.record.head], words)
    return None


def _fit_line(run: Run, facts: FitFacts) -> str:
    words: dict[str, Any] = {"--output": ",".join(facts.output)}
    if run.record.head in HEADS:
        row = HEADS[run.record.head]
        defaults = {field.name: field.default for field in fields(load_object(row.options))}
        for name, value in facts.options.items():
            given = tuple(value) if isinstance(value, list) else value
            if name in defaults and name not in NEVER_TOLD and given != defaults[name]:
                words["--" + name.replace("_", "-")] = given
        if row.refits and not facts.refit:
            words["--refit"] = False
    words |= {"--views": facts.views or None, "--average-views": facts.average_views or None}
    points = facts.curve or ()
    shots = [point.size.removeprefix("shots ") for point in points if re.match("shots |all$", point.size)]
    shares = [point.size.removeprefix("fraction ") for point in points if point.size.startswith("fraction ")]
    if any(size != "all" for size in shots):
        words["--shots"] = ",".join(shots)
    if shares:
        words["--train-fraction"] = ",".join(shares)
    draws = max((len(point.accuracies) for point in points), default=0)
    words["--repeats"] = draws if points and draws != 5 else None
    return _line(["probe", "fit", run.record.head], words, run.record.store)


def _tune_line(run: Run, facts: TuneFacts, store: Store | None) -> str:
    defaults = {field.name: field.default for field in fields(TuneSettings)}
    words: dict[str, Any] = {
        **_network_flags(run.record.backbone or {"name": None}, facts.weights_path),
        "--precision": facts.options.get("precision"),
    }
    for name, value in facts.options.items():
        plain = isinstance(value, str | int | float) and value != defaults.get(name)
        if name in defaults and plain:
            words["--" + name.replace("_", "-")] = value
    rate = facts.options.get("optimiser")
    if isinstance(rate, Mapping):
        words |= {"--optimiser": rate.get("name"), "--lr": rate.get("lr")}
    origin = store.origins[-1] if store is not None and store.origins else {}
    return _line(["probe", "finetune"], words | data_flags(origin), origin.get("spec", run.record.dataset))


def _line(words: list[str], flags: Mapping[str, Any], last: str | None = None) -> str:
    """A command line as a shell reads it; flags that are None are left out."""
    told = list(words)
    for flag, value in flags.items():
        if value is True:
            told.append(flag)
        elif value is False:
            told.append("--no-" + flag.removeprefix("--"))
        elif value is not None:
            several = isinstance(value, list | tuple)
            told += [flag, ",".join(map(str, value)) if several else str(value)]
    return shlex.join([*told, *([last] if last else [])])
