"""``probe doctor``: what this machine has and what probe would use."""

from __future__ import annotations

from typing import Any

import click

from probe.commands.options import emit, json_option
from probe.config import Home
from probe.machine import memory_bytes, usable_cpus, visible_gpus
from probe.versions import versions


@click.command(name="doctor")
@json_option
@click.pass_obj
def command(home: Home, as_json: bool) -> None:
    """Say what this machine has and what probe would use on it."""
    from probe.backbones import BACKBONES, choose_precision
    from probe.backbones.weights import available_weights
    from probe.store import LocalFiles, list_stores

    precision, reason = choose_precision("auto")
    stores, damaged = list_stores(home)
    facts: dict[str, Any] = {
        "versions": versions(),
        "cores": usable_cpus(),
        "memory_gigabytes": round(memory_bytes() / 1e9, 1),
        "gpus": len(visible_gpus()),
        "precision": precision,
        "precision_reason": reason,
        "engines": _engines(),
        "home": str(home.root.resolve()),
        "free_gigabytes": round(LocalFiles(home.root).free_bytes() / 1e9, 1),
        "stores": len(stores),
        "unfinished_stores": len(damaged),
        "weights": {
            row.name: str(available_weights(row, home) or "not here, would be fetched")
            for row in BACKBONES.values()
            if row.weights
        },
    }
    emit(facts, as_json, lambda: _lines(facts))


def _engines() -> list[dict[str, Any]]:
    """Every engine, best first: what it needs, what of that is missing, and what ``auto`` takes it for."""
    from probe.backbones import BACKBONES, choose_precision
    from probe.backbones.engines import ENGINES, choose_engine

    taken: dict[str, list[str]] = {name: [] for name in ENGINES}
    for row in BACKBONES.values():
        precision = choose_precision("auto", row).name
        taken[choose_engine(row, precision).name].append(f"{row.name} ({precision})")
    return [
        {
            "engine": name,
            "needs": list(engine.needs),
            "missing": list(engine.missing),
            "install": engine.install_hint if engine.missing else None,
            "taken_for": taken[name],
        }
        for name, engine in ENGINES.items()
    ]


def _engine_text(engine: dict[str, Any]) -> str:
    needs = "needs " + " and ".join(engine["needs"]) if engine["needs"] else "needs nothing"
    if engine["missing"]:
        return f"{engine['engine']}: {needs}, not installed ({engine['install']})"
    taken = ", ".join(engine["taken_for"]) or "what it is asked for"
    return f"{engine['engine']}: {needs}, is taken for {taken}"


def _lines(facts: dict[str, Any]) -> list[str]:
    versions_text = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    memory = f"{facts['memory_gigabytes']:,} GB memory"
    return [
        f"versions   {versions_text}",
        f"compute    {facts['cores']} cores, {memory}, {facts['gpus'] or 'no'} GPUs",
        f"precision  {facts['precision']}: {facts['precision_reason']}",
        *(f"engine     {_engine_text(engine)}" for engine in facts["engines"]),
        f"home       {facts['home']}, {facts['free_gigabytes']:,} GB free",
        f"stores     {facts['stores']} finished, {facts['unfinished_stores']} unfinished or damaged",
        *(f"weights    {name}: {where}" for name, where in facts["weights"].items()),
    ]
