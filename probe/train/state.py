"""How far a training has come, and what it keeps on disk after every epoch, so that a killed one goes on.

``state.npz`` has its course and every tensor the next epoch depends on, ``best.npz`` the weights of the epoch
that is kept so far.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.archives import read_arrays
from probe.durable import discard, replacing
from probe.errors import UsageError, is_passing
from probe.failpoints import reach
from probe.progress import say
from probe.text import count_of
from probe.train.rules import LoopSettings

STATE_FILE = "state.npz"
BEST_FILE = "best.npz"
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a file can raise that is not what was written."""
MIN_DELTA = 1e-4
"""How much better counts as better for `ReduceLr`; Keras's own value."""


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


class Training:
    """A training in progress: the model, its optimiser, and the state that goes to disk."""

    def __init__(
        self, model: Any, optimiser: Any, settings: LoopSettings, folder: Path | None, identity: str
    ) -> None:
        self.settings, self.folder, self.optimiser = settings, folder, optimiser
        metrics = {id(variable) for variable in model.metrics_variables}
        # `variables`, not `weights`: the random state of dropout is needed to continue as if undisturbed.
        self.network = [variable for variable in model.variables if id(variable) not in metrics]
        self.state = State(identity, stops=[Patience() for _ in settings.stops])
        self.kept: list[NDArray[Any]] | None = None
        self._found: list[NDArray[Any]] | None = None

    def open(self, *, resume: bool) -> None:
        """Find the folder's state to continue from it, or put it aside; the model does not change yet."""
        if self.folder is None or not (self.folder / STATE_FILE).exists():
            return
        if not resume:
            discard(self.folder / STATE_FILE)
            return
        try:
            saved = _read_state(self.folder)
            if saved.state.identity == self.state.identity:
                _expect_course(saved.state, len(self.settings.stops))
                _expect_arrays(saved.values, [*self.network, *self.optimiser.variables])
                if saved.kept is not None:
                    _expect_arrays(saved.kept, self.network)
        except DAMAGE as error:
            if is_passing(error):
                raise
            say(f"the state of this training is damaged, and it starts anew: {error}")
            discard(self.folder / STATE_FILE)
            discard(self.folder / BEST_FILE)
            return
        if saved.state.identity != self.state.identity:
            raise UsageError(
                f"the training in {self.folder} is not the one to be resumed",
                expected="the same recipe, data, seed and precision",
                hint="repeat the command as it was given, or start anew without resuming",
            )
        if saved.state.epochs_done > self.settings.epochs:
            raise UsageError(
                f"the training in {self.folder} is further than asked",
                expected=f"at most {count_of(self.settings.epochs, 'epoch')}",
                found=f"{saved.state.epochs_done}",
                hint="ask for as many epochs, or start anew without resuming",
            )
        self.state, self._found, self.kept = saved.state, saved.values, saved.kept

    def take_start(self, figures: Mapping[str, float]) -> None:
        """Count the model as it is now, with these validation figures, as epoch 0.

        Epochs may have been done already, by a version that did not score the start: which of them is the
        best, and how long that is ago, is then worked out anew.
        """
        state, keep = self.state, self.settings.keep
        state.start = dict(figures)
        state.kept, state.kept_epoch = Patience(), 0
        state.stops = [Patience() for _ in self.settings.stops]
        for rule, patience in zip(self.settings.stops, state.stops, strict=True):
            if rule.monitor in figures:
                patience.saw(rule.monitor, figures[rule.monitor])
        plateau = self.settings.reduce_lr
        if plateau is not None and plateau.monitor in figures and not state.epochs_done:
            state.reduce_lr.saw(plateau.monitor, figures[plateau.monitor], MIN_DELTA)
        if keep in figures:
            state.kept.saw(keep, figures[keep])
        for epoch in range(state.epochs_done):
            done = {name: values[epoch] for name, values in state.history.items()}
            self._is_best(epoch + 1, done)
            self._stop(done)
        if state.kept.best is not None and not state.kept_epoch:
            self._hold_kept()

    def load_state(self) -> None:
        """Give the model what `open` found."""
        if self._found is None:
            return
        _assign([*self.network, *self.optimiser.variables], self._found)
        self._found = None

    def finish_epoch(self, figures: Mapping[str, float], seconds: float) -> None:
        """Take an epoch's figures into account and write the state."""
        state = self.state
        state.epochs_done += 1
        state.seconds += seconds
        for name, value in figures.items():
            state.history.setdefault(name, []).append(value)
        if self._is_best(state.epochs_done, figures):
            self._hold_kept()
        self._reduce_lr(figures)
        self._stop(figures)
        reach("epoch-done")
        if self.folder is not None:
            self._write()
            reach("state-written")

    def load_kept(self) -> None:
        """Give the model the weights of the kept epoch."""
        if self.settings.keep == "last" or self.kept is None:
            self.state.kept_epoch = self.state.epochs_done
        else:
            _assign(self.network, self.kept)

    def _is_best(self, epoch: int, figures: Mapping[str, float]) -> bool:
        """Note whether `epoch` is the best so far by the rule."""
        keep = self.settings.keep
        if keep == "last" or not self.state.kept.saw(keep, figures[keep]):
            return False
        self.state.kept_epoch = epoch
        return True

    def _hold_kept(self) -> None:
        """Hold on to the weights of the model as it is now."""
        self.kept = _values(self.network)
        if self.folder is not None:
            facts = {"identity": self.state.identity, "epoch": self.state.kept_epoch}
            _write_arrays(self.folder / BEST_FILE, facts, self.kept)

    def _reduce_lr(self, figures: Mapping[str, float]) -> None:
        rule = self.settings.reduce_lr
        if rule is None:
            return
        patience = self.state.reduce_lr
        if (
            not patience.saw(rule.monitor, figures[rule.monitor], MIN_DELTA)
            and patience.wait >= rule.patience
        ):
            patience.wait = 0
            self.optimiser.learning_rate = max(figures["lr"] * rule.factor, min(rule.min_lr, figures["lr"]))

    def _stop(self, figures: Mapping[str, float]) -> None:
        for rule, patience in zip(self.settings.stops, self.state.stops, strict=True):
            if not patience.saw(rule.monitor, figures[rule.monitor]) and patience.wait >= rule.patience:
                self.state.stopped = f"{rule.monitor} has not improved for {rule.patience} epochs"
        if not math.isfinite(figures["loss"]):
            self.state.stopped = "the loss is no longer a number"

    def _write(self) -> None:
        variables = [*self.network, *self.optimiser.variables]
        assert self.folder is not None
        _write_arrays(self.folder / STATE_FILE, asdict(self.state), _values(variables))


@dataclass(frozen=True)
class _Saved:
    """A state as it was written.

    Attributes
    ----------
    values : of the network's variables and then the optimiser's.
    kept : of the network's in the epoch that is kept so far; None where none is.
    """

    state: State
    values: list[NDArray[Any]]
    kept: list[NDArray[Any]] | None


def _read_state(folder: Path) -> _Saved:
    """The state in a folder; one of `DAMAGE` where it is not what was written."""
    facts, values = _read(folder / STATE_FILE)
    plain = dict(facts)
    plain["stops"] = [Patience(**patience) for patience in plain["stops"]]
    plain["reduce_lr"], plain["kept"] = Patience(**plain["reduce_lr"]), Patience(**plain["kept"])
    state = State(**plain)
    return _Saved(state, values, _read_kept(folder, state) if state.kept.best is not None else None)


def _read_kept(folder: Path, state: State) -> list[NDArray[Any]]:
    """The weights of the epoch that is kept; ValueError where they are another training's."""
    facts, values = _read(folder / BEST_FILE)
    # Without an identity: of a version that wrote none.
    if facts.get("identity", state.identity) != state.identity:
        raise ValueError(f"{BEST_FILE} is of another training")
    return values


def _expect_course(state: State, stops: int) -> None:
    """ValueError where a state says what no training can have come to."""
    rules = [*state.stops, state.reduce_lr, state.kept]
    counts = [state.epochs_done, state.kept_epoch, *(rule.wait for rule in rules)]
    histories = [*state.history.values()]
    figures = [*chain(*histories), state.seconds, *(state.start or {}).values()]
    figures += [rule.best for rule in rules if rule.best is not None]
    if (
        not all(type(count) is int and count >= 0 for count in counts)
        or not all(type(figure) in (int, float) for figure in figures)
        or any(len(history) != state.epochs_done for history in histories)
        or state.kept_epoch > state.epochs_done
        or len(state.stops) != stops
        or not isinstance(state.stopped, str | None)
    ):
        raise ValueError("its course is none that a training can have")


def _expect_arrays(values: Sequence[NDArray[Any]], variables: Sequence[Any]) -> None:
    """ValueError where `values` cannot be given to `variables`: other shapes or types."""
    found = [(tuple(value.shape), value.dtype.name) for value in values]
    expected = [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
    if found != expected:
        raise ValueError("its arrays are not those of this network")


def _write_arrays(path: Path, facts: Mapping[str, Any], values: Sequence[NDArray[Any]]) -> None:
    """Facts and arrays as one ``.npz``, whole or not at all."""
    named = {f"v{position:05d}": value for position, value in enumerate(values)}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)  # type: ignore[arg-type]


def _read(path: Path) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    arrays = read_arrays(path)
    facts = json.loads(arrays.pop("facts").tobytes())
    return facts, [arrays[name] for name in sorted(arrays)]


def _values(variables: list[Any]) -> list[NDArray[Any]]:
    # A copy: on a CPU the array would be the variable's own memory, and change with the next step.
    return [np.array(variable.value.numpy()) for variable in variables]


def _assign(variables: list[Any], values: list[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
