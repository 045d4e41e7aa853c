"""The training loop: any Keras model, any inputs, and a state that survives a kill.

Everything the next epoch depends on is written after each one: weights, optimiser, dropout's random state,
the counters of early stopping and of the learning rate. Batches depend on seed and epoch alone. A run that
was killed and resumed therefore ends, on a CPU, with the weights of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.durable import discard
from probe.errors import FitError, UsageError
from probe.progress import Progress, say
from probe.scratch import hold
from probe.train.inputs import Inputs
from probe.train.rules import LoopSettings
from probe.train.state import (
    BEST_FILE,
    DAMAGE,
    STATE_FILE,
    Patience,
    State,
    expect_shapes,
    read_state,
    write_arrays,
)

LOCK_FILE = "lock"
MIN_DELTA = 1e-4
"""How much better counts as better for `ReduceLr`; Keras's own value."""

OnEpoch = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class LoopResult:
    """What happened.

    Attributes
    ----------
    history : figure -> value of every epoch: loss, accuracy, val_loss, val_accuracy, lr.
    start : val_loss and val_accuracy of epoch 0, the network before any step; None where it was not scored.
    kept_epoch : the epoch, counted from 1, whose weights the model holds now; 0 is the start.
    stopped : why training ended before the last epoch, None when it did not.
    seconds : wall time of all epochs, those before a resume included.
    keep : the rule by which the epoch was kept.
    """

    history: Mapping[str, list[float]]
    kept_epoch: int
    stopped: str | None
    seconds: float
    start: Mapping[str, float] | None = None
    keep: str = "last"


def fit_loop(
    model: Any,
    inputs: Inputs,
    settings: LoopSettings,
    *,
    folder: Path | None = None,
    resume: bool = False,
    identity: str = "",
    on_epoch: OnEpoch | None = None,
    start_counts: bool = False,
    progress: bool = False,
    name: str = "train",
) -> LoopResult:
    """Compile and train `model`, and leave it with the weights of the epoch that `settings.keep` asks for.

    Parameters
    ----------
    folder : where the state is written after every epoch; nothing is written without one.
    resume : continue from the state in `folder`, if there is one; otherwise it is overwritten.
    identity : what else must be the same for a state to be continued (data, seed, network).
    on_epoch : called with the epoch, counted from 1, and its figures, after its state is safe; with 0 and the
        validation figures of the start, where that counts.
    start_counts : the network as it is handed over is epoch 0: it is scored on validation, can be kept, and
        what waits for an improvement of a validation figure counts from it. For a network that has been
        fitted; random weights are no candidate.
    progress, name : say how far the training has come (`probe.progress`), and what it is called there.

    Raises UsageError when a figure is watched that these inputs do not give, or the state found belongs to
    another training; FitError when another process is at the training in `folder`.
    """
    with _alone(folder):
        return _fit_loop(
            model, inputs, settings, folder, resume, identity, on_epoch, start_counts, progress, name
        )


@contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """While a training writes its state into `folder`, which two would overwrite for each other."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / LOCK_FILE) as free:
        if not free:
            raise FitError(
                "another process is at this very training",
                found=f"the lock {folder / LOCK_FILE} taken",
                hint="wait until it has ended, or train with another --seed",
            )
        yield


def _fit_loop(
    model: Any,
    inputs: Inputs,
    settings: LoopSettings,
    folder: Path | None,
    resume: bool,
    identity: str,
    on_epoch: OnEpoch | None,
    start_counts: bool,
    progress: bool,
    name: str,
) -> LoopResult:
    settings.check(has_validation=inputs.validation() is not None)
    with model.distribute_strategy.scope():
        optimiser = settings.keras_optimiser(inputs.steps)
        model.compile(optimizer=optimiser, loss=settings.loss, metrics=["accuracy"])
        optimiser.build(model.trainable_variables)
    run = _Run(model, optimiser, settings, folder, settings.identity(identity))
    run.open(resume=resume)
    if start_counts and run.state.start is None:
        _score_start(run, model, inputs, on_epoch)
    run.load_state()
    done, steps = run.state.epochs_done, inputs.steps
    with Progress(name, settings.epochs * steps, "steps", initial=done * steps, shown=progress) as bar:
        while run.state.epochs_done < settings.epochs and run.state.stopped is None:
            start = time.perf_counter()
            epoch = run.state.epochs_done
            logs = model.fit(
                inputs.training(epoch),
                validation_data=inputs.validation(),
                initial_epoch=epoch,
                epochs=epoch + 1,
                class_weight=dict(settings.class_weights) if settings.class_weights else None,
                shuffle=False,
                verbose=0,
                callbacks=[_step_counter(bar)] if progress else None,
            ).history
            figures = {figure: float(values[-1]) for figure, values in logs.items()}
            figures["lr"] = _learning_rate(optimiser)
            run.finish_epoch(figures, time.perf_counter() - start)
            if on_epoch is not None:
                on_epoch(run.state.epochs_done, figures)
    run.load_kept()
    state = run.state
    return LoopResult(
        state.history, state.kept_epoch, state.stopped, state.seconds, state.start, settings.keep
    )


def _score_start(run: _Run, model: Any, inputs: Inputs, on_epoch: OnEpoch | None) -> None:
    validation = inputs.validation()
    if validation is None:
        return
    scored = model.evaluate(validation, verbose=0, return_dict=True)
    figures = {f"val_{figure}": float(value) for figure, value in scored.items()}
    run.take_start(figures)
    if on_epoch is not None:
        on_epoch(0, figures)


def _step_counter(bar: Progress) -> Any:
    from probe.tensorflow_setup import keras

    class StepCounter(keras.callbacks.Callback):
        async_safe = True  # the steps need not wait for it

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            bar.update()

    return StepCounter()


def probabilities(model: Any, dataset: Any) -> NDArray[np.float32]:
    """(N, C) probabilities for a dataset of ``(inputs, labels)``; a sigmoid unit becomes two columns."""
    found = np.asarray(model.predict(dataset, verbose=0), dtype=np.float32)
    return np.concatenate([1 - found, found], axis=1) if found.shape[1] == 1 else found


class _Run:
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
            saved = read_state(self.folder)
            if saved.state.identity == self.state.identity:
                expect_shapes(saved.values, [*self.network, *self.optimiser.variables])
                expect_shapes(saved.kept or self.network, self.network)
        except DAMAGE as error:
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
        if self.folder is not None:
            self._write()

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
            write_arrays(self.folder / BEST_FILE, {"epoch": self.state.kept_epoch}, self.kept)

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
        write_arrays(self.folder / STATE_FILE, asdict(self.state), _values(variables))


def _learning_rate(optimiser: Any) -> float:
    # A Keras variable, or the tensor that a schedule computes.
    rate = optimiser.learning_rate
    return float(getattr(rate, "value", rate).numpy())


def _values(variables: list[Any]) -> list[NDArray[Any]]:
    # A copy: on a CPU the array would be the variable's own memory, and change with the next step.
    return [np.array(variable.value.numpy()) for variable in variables]


def _assign(variables: list[Any], values: list[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
