"""The training loop: any Keras model, any inputs, and a state that survives a kill.

Everything the next epoch depends on is written after each one: weights, optimiser, dropout's random state,
the counters of early stopping and of the learning rate. Batches depend on seed and epoch alone. A run that
was killed and resumed therefore ends, on a CPU, with the weights of one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.config import own_place
from probe.errors import FitError
from probe.progress import Progress
from probe.scratch import hold
from probe.train.inputs import Inputs
from probe.train.rules import LoopSettings
from probe.train.state import Training

LOCK_FILE = "lock"

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
    own_place(folder.parent, folder.name).mkdir(parents=True, exist_ok=True)
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
    from probe.networks.builder import build_metrics

    settings.check(has_validation=inputs.validation() is not None)
    with model.distribute_strategy.scope():
        optimiser = settings.keras_optimiser(inputs.steps)
        model.compile(optimizer=optimiser, loss=settings.loss, metrics=["accuracy"])
        optimiser.build(model.trainable_variables)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        _build_metrics(model, inputs)
    else:
        build_metrics(model)
    run = Training(model, optimiser, settings, folder, settings.identity(identity))
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


def _build_metrics(model: Any, inputs: Inputs) -> None:
    """Build what Keras would build of a first batch, and keep it from trying.

    It averages the first batch of every fit and evaluation over the devices to see its shape, which fails
    where they got different numbers of rows.
    """
    values, labels = next(iter(inputs.training(0)))
    one = tuple(value[:1] for value in values) if isinstance(values, tuple) else values[:1]
    model.test_on_batch(one, labels[:1])
    model.reset_metrics()
    model._maybe_symbolic_build = lambda **_: None


def _score_start(run: Training, model: Any, inputs: Inputs, on_epoch: OnEpoch | None) -> None:
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


def predictor(model: Any) -> Callable[[Any], NDArray[np.float32]]:
    """What gives the (N, C) probabilities of a dataset of ``(inputs, labels)``.

    A sigmoid unit becomes two columns. On one device the network is traced once, for batches of any size and
    every dataset alike; Keras traces for the first size that it sees, and again for the next.
    """
    from probe.tensorflow_setup import tf

    forward = tf.function(lambda inputs: model(inputs, training=False), autograph=False)

    def outputs(dataset: Any) -> Any:
        if model.distribute_strategy.num_replicas_in_sync > 1:
            return model.predict(dataset, verbose=0)
        traced = forward.get_concrete_function(dataset.element_spec[0])
        return np.concatenate([traced(inputs).numpy() for inputs, _ in dataset])

    def predict(dataset: Any) -> NDArray[np.float32]:
        found = np.asarray(outputs(dataset), dtype=np.float32)
        return np.concatenate([1 - found, found], axis=1) if found.shape[1] == 1 else found

    return predict


def _learning_rate(optimiser: Any) -> float:
    # A Keras variable, or the tensor that a schedule computes.
    rate = optimiser.learning_rate
    return float(getattr(rate, "value", rate).numpy())
