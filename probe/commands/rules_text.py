"""The rules of a training for people, from their records: optimiser, stops, plateau, kept epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probe.train.schedule import CONSTANT


def optimiser_text(optimiser: Mapping[str, Any]) -> str:
    """``sgd lr 0.01 momentum 0.9 nesterov``: what is at its zero or default is left out."""
    extras = ((name, optimiser.get(name)) for name in ("momentum", "nesterov", "decay"))
    said = "".join(f" {name}" if value is True else f" {name} {value:g}" for name, value in extras if value)
    schedule = optimiser.get("schedule", CONSTANT)
    return f"{optimiser['name']} lr {optimiser['lr']:g}{said}" + (
        "" if schedule == CONSTANT else f" schedule {schedule}"
    )


def stops_text(stops: Sequence[Mapping[str, Any]]) -> str:
    """``val_loss patience 4``, one after the other; empty without any."""
    return ", ".join(f"{stop['monitor']} patience {stop['patience']}" for stop in stops)


def plateau_text(rule: Mapping[str, Any] | None) -> str:
    """When the rate is reduced, by how much and how far; empty where it is not."""
    if rule is None:
        return ""
    return f"{rule['monitor']} patience {rule['patience']}: lr × {rule['factor']:g}, ≥ {rule['min_lr']:g}"


def scored_text(keep: str) -> str:
    """Which epoch is scored."""
    return "the last epoch" if keep == "last" else f"the best epoch by {keep}"
