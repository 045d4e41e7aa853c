"""What a training keeps on disk after every epoch, so that a killed one goes on.

``state.npz`` has its course and every tensor the next epoch depends on, ``best.npz`` the weights of the epoch
that is kept so far.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from probe.durable import replacing

STATE_FILE = "state.npz"
BEST_FILE = "best.npz"
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error)
"""What reading a file can raise that is not what was written."""


@dataclass
class Patience:
    """The best value of a figure so far, and for how many epochs it has not been beaten."""

    best: float | None = None
    wait: int = 0

    def saw(self, monitor: str, value: float, min_delta: float = 0.0) -> bool:
        """Note this epoch's value; True when it is a new best."""
        sign = -1.0 if monitor.endswith("accuracy") else 1.0
        improved = not math.isnan(value) and (
            self.best is None or sign * value < sign * self.best - min_delta
        )
        self.best, self.wait = (value, 0) if improved else (self.best, self.wait + 1)
        return improved


@dataclass
class State:
    """Everything about the course of a training that is not a tensor; plain JSON values."""

    identity: str
    epochs_done: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    stops: list[Patience] = field(default_factory=list)
    reduce_lr: Patience = field(default_factory=Patience)
    kept: Patience = field(default_factory=Patience)
    kept_epoch: int = 0
    stopped: str | None = None
    seconds: float = 0.0
    start: dict[str, float] | None = None


@dataclass(frozen=True)
class Saved:
    """A state as it was written.

    Attributes
    ----------
    values : of the network's variables and then the optimiser's.
    kept : of the network's in the epoch that is kept so far; None where none is.
    """

    state: State
    values: list[NDArray[Any]]
    kept: list[NDArray[Any]] | None


def read_state(folder: Path) -> Saved:
    """The state in a folder; one of `DAMAGE` where it is not what was written."""
    facts, values = _read(folder / STATE_FILE)
    plain = dict(facts)
    plain["stops"] = [Patience(**patience) for patience in plain["stops"]]
    plain["reduce_lr"], plain["kept"] = Patience(**plain["reduce_lr"]), Patience(**plain["kept"])
    state = State(**plain)
    kept = _read(folder / BEST_FILE)[1] if state.kept.best is not None else None
    return Saved(state, values, kept)


def expect_shapes(values: Sequence[Any], variables: Sequence[Any]) -> None:
    """ValueError where `values` cannot be given to `variables`."""
    found, expected = ([tuple(one.shape) for one in some] for some in (values, variables))
    if found != expected:
        raise ValueError("its arrays are not those of this network")


def write_arrays(path: Path, facts: Mapping[str, Any], values: Sequence[NDArray[Any]]) -> None:
    """Facts and arrays as one ``.npz``, whole or not at all."""
    named = {f"v{position:05d}": value for position, value in enumerate(values)}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)  # type: ignore[arg-type]


def _read(path: Path) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        facts = json.loads(archive["facts"].tobytes())
        return facts, [archive[name] for name in sorted(archive.files) if name != "facts"]
