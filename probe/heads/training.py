"""What heads trained by gradient steps share: their options, and one training per seed with early stopping.

Features that are not in memory are read batch by batch, in an order that is new in every epoch. Keras is
imported only while training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from probe.errors import FitError, UsageError
from probe.heads.head import FitOutcome, FitSize, Floats, Head, MapShape, Samples, averaged
from probe.heads.linear import scores
from probe.heads.weighting import balanced_weights
from probe.progress import expect, step


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes
    ----------
    learning_rate : of Adam.
    batch_size : rows per step.
    epochs : at most this many passes over the training rows.
    patience : stop when validation loss has not improved for this many epochs; the best weights are kept.
    seed : of the first training.
    seeds : how many trainings, with consecutive seeds; the best by validation loss becomes the head.
    class_weight : balanced weights each row by N / (C · rows of its class); by default all alike.
    standardise : bring the features to mean 0 and deviation 1 first; otherwise as the backbone gives them.
    """

    learning_rate: float = 1e-3
    batch_size: int = 256
    epochs: int = 100
    patience: int = 10
    seed: int = 0
    seeds: int = 1
    class_weight: Literal["balanced"] | None = None
    standardise: bool = True

    def __post_init__(self) -> None:
        least = min(self.batch_size, self.epochs, self.patience, self.seeds)
        # Keras takes seeds of 32 bits.
        seeded = self.seed >= 0 and self.seed + self.seeds <= 2**32
        if least < 1 or not 0 < self.learning_rate < float("inf") or not seeded:
            raise UsageError(
                "training cannot run with these settings",
                expected="batch size, epochs, patience and seeds of at least 1, learning rate above 0, "
                "seed of at least 0",
            )
        if self.class_weight not in (None, "balanced"):
            raise UsageError(
                "there is no such class weight", expected="balanced or none", found=str(self.class_weight)
            )


def need_validation(val: Samples | None) -> Samples:
    """FitError without validation rows: training would not know when to stop."""
    if val is None:
        raise FitError(
            "this head cannot be trained without a validation part",
            expected="validation rows to stop by",
            found="none",
            hint="use a data set with a validation part, or a head that needs none",
        )
    return val


def need_map(samples: Samples, what: str) -> MapShape:
    """The map that a row of features is. FitError where it is none, which `what` needs."""
    if samples.map_shape is None:
        raise FitError(
            f"{what} needs a feature map",
            expected="one stored output that is a map, such as block5:map",
            found=f"{samples.features.shape[1]} features an image without places",
            hint="extract with --outputs block5:map, then probe fit with --output block5:map",
        )
    return samples.map_shape


Prepare = Callable[[Floats], Floats]
"""Rows of features (n, D) -> what the network takes: standardised, of any shape."""

READERS = 2
"""Threads that read batches ahead of the training, where features are not in memory."""


def train_seeds(
    train: Samples,
    val: Samples,
    classes: int,
    options: TrainingOptions,
    prepare: Prepare,
    make: Callable[[int], Any],
    freeze: Callable[[Any], Head],
    chosen: dict[str, Any],
    notes: tuple[str, ...],
    *,
    sigmoid: bool = False,
) -> FitOutcome:
    """One training per seed; the head is the one of lowest validation loss.

    Parameters
    ----------
    prepare : turns features into the inputs of the network.
    make : seed -> a Keras model that ends in logits (B, C), or (B, 1) of the second of two classes.
    freeze : the trained model -> the head.
    chosen : what to record beside the seed.
    notes : what to say beside what training itself has to say.
    sigmoid : the model ends in one logit.
    """
    inputs, stop = _prepared(train, prepare), _prepared(val, prepare)
    expect(options.seeds * options.epochs)
    heads, histories, path = [], [], []
    for seed in range(options.seed, options.seed + options.seeds):
        model, history, stopped = _train(inputs, stop, classes, options, prepare, make, seed, sigmoid)
        head = freeze(model)
        accuracy, log_loss = scores(averaged(head, val), val.labels)
        path.append(
            {
                "seed": seed,
                "val_accuracy": accuracy,
                "val_log_loss": log_loss,
                "epochs": len(history),
                "stopped_early": stopped,
            }
        )
        heads.append(head)
        histories.append(history)
        step(options.epochs - len(history))  # what early stopping has spared
    best = min(range(len(heads)), key=lambda i: path[i]["val_log_loss"])
    if val.views:
        notes += ("training was stopped by the validation loss of plain features, not of averages",)
    return FitOutcome(
        heads[best],
        {"seed": path[best]["seed"], **chosen},
        path,
        averaged(heads[best], val),
        notes + _unfinished(path, options),
        history=tuple(histories),
        seed_heads=tuple(heads),
        val_used_for="stop training" + (" and choose the seed" if len(heads) > 1 else ""),
    )


def _unfinished(path: list[dict[str, Any]], options: TrainingOptions) -> tuple[str, ...]:
    """A note where validation loss was still allowed to improve when the epochs ran out."""
    cut = [row["seed"] for row in path if not row["stopped_early"]]
    if not cut:
        return ()
    which = "training" if len(path) == 1 else f"the training of {len(cut)} of {len(path)} seeds"
    limit = f"the limit of {options.epochs} epochs"
    return (f"{which} ended at {limit}, before validation loss had stopped improving: --epochs takes more",)


def held_bytes(size: FitSize, options: TrainingOptions, *, in_memory: bool) -> int:
    """Features in memory once more as the network takes them, and once more as TensorFlow does."""
    return 2 * 4 * size.fitted * size.width if in_memory else 0


def _prepared(samples: Samples, prepare: Prepare) -> Samples:
    """Once for all trainings, where the features are in memory."""
    features = samples.features
    return Samples(prepare(features), samples.labels) if isinstance(features, np.ndarray) else samples


def _train(
    train: Samples,
    val: Samples,
    classes: int,
    options: TrainingOptions,
    prepare: Prepare,
    make: Callable[[int], Any],
    seed: int,
    sigmoid: bool,
) -> tuple[Any, list[dict[str, float]], bool]:
    """A model with its best weights, its history, one dict per epoch, and whether patience ended it.

    Arrays are prepared already.
    """
    from probe.networks.builder import build_metrics
    from probe.tensorflow_setup import keras, pin

    pin()
    keras.utils.set_random_seed(seed)
    model = make(seed)
    losses, metrics = keras.losses, keras.metrics
    softmax = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate),
        loss=losses.BinaryCrossentropy(from_logits=True) if sigmoid else softmax,
        weighted_metrics=[metrics.BinaryAccuracy("accuracy", threshold=0.0) if sigmoid else "accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    build_metrics(model)
    weights = balanced_weights(train.labels, classes) if options.class_weight else None
    stop = keras.callbacks.EarlyStopping("val_loss", patience=options.patience, restore_best_weights=True)
    counted = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: step())
    if isinstance(train.features, np.ndarray):
        data: dict[str, Any] = {"x": train.features, "y": train.labels, "sample_weight": weights}
        data |= {"batch_size": options.batch_size, "validation_data": (val.features, val.labels)}
    else:
        data = {"x": _batches(train, weights, prepare, options.batch_size, seed)}
        data["validation_data"] = _batches(val, None, prepare, options.batch_size, None)
    record = model.fit(**data, epochs=options.epochs, callbacks=[stop, counted], verbose=0).history
    history = [
        {name: float(values[epoch]) for name, values in record.items()}
        for epoch in range(len(record["loss"]))
    ]
    return model, history, stop.stopped_epoch > 0


def _batches(
    samples: Samples, weights: Floats | None, prepare: Prepare, batch_size: int, seed: int | None
) -> Any:
    """Batches for Keras of features that are not in memory; in the order of the rows without a seed."""
    from probe.tensorflow_setup import keras

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__(workers=READERS)
            self.generator = np.random.default_rng(seed)
            self.order = np.arange(len(samples))
            self.on_epoch_end()

        def __len__(self) -> int:
            return -(-len(samples) // batch_size)

        def __getitem__(self, number: int) -> tuple[Any, ...]:
            rows = self.order[number * batch_size : (number + 1) * batch_size]
            columns = (samples.labels,) if weights is None else (samples.labels, weights)
            inputs = prepare(np.asarray(samples.features[rows], np.float32))
            return inputs, *(column[rows] for column in columns)

        def on_epoch_end(self) -> None:
            if seed is not None:
                self.order = self.generator.permutation(len(samples))

    return Batches()
