"""Layers of keras-hub in networks that are saved: Keras makes them again from what they say of themselves.

Some of theirs say what their constructor refuses, or leave out what it has to be told.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from probe.errors import UsageError
from probe.tensorflow_setup import keras

PACKAGE = "keras_hub"
OF_EVERY_LAYER = ("name", "trainable", "dtype")
PLAIN = (bool, int, float, str, tuple)
"""Types of arguments that are taken from a layer's attribute of that name."""
ANY_SIDE = 224
"""Of the picture that is tried where a network leaves the side open."""
AS_BEFORE = 1e-3
"""How far apart the outputs of a network and of the one made again may lie, relative to their spread."""


def keep_whole_configs(model: Any) -> None:
    """Have the layers of keras-hub in a `keras.Model` say just what their constructors take."""
    for layer in _theirs(model):
        made_of_arguments = type(layer).from_config.__func__ is keras.layers.Layer.from_config.__func__
        if made_of_arguments and type(layer).get_config is not keras.layers.Layer.get_config:
            layer.get_config = partial(_whole_config, layer)


def _whole_config(layer: Any) -> dict[str, Any]:
    said = type(layer).get_config(layer)
    arguments = [*OF_EVERY_LAYER, *inspect.signature(type(layer)).parameters]
    kept = {name: getattr(layer, name, None) for name in arguments} | said
    return {name: kept[name] for name in arguments if name in said or isinstance(kept[name], PLAIN)}


def packages_of(model: Any) -> list[str]:
    """``keras``, and ``keras-hub`` where a network has layers of it."""
    return ["keras", "keras-hub"] if any(_theirs(model)) else ["keras"]


def expect_kept(model: Any, trained: Iterable[Any] = ()) -> None:
    """UsageError where what Keras would save of a network is not that network.

    `trained` are those of its layers whose weights will change. Networks without layers of keras-hub are not
    looked at.
    """
    if not any(_theirs(model)):
        return
    for layer in trained:
        if _is_theirs(layer) and type(layer).load_own_variables is not keras.layers.Layer.load_own_variables:
            raise UsageError(
                f"{layer.name} cannot be trained: keras-hub saves other weights of it than it computes with",
                expected="a cut above it",
                hint="--unfreeze last:Nblocks, or the stage block1",
            )
    try:
        again = keras.models.model_from_json(model.to_json())
        again.set_weights(model.get_weights())
    except Exception as error:  # whatever their constructors raise
        raise _not_kept(str(error).strip().partition("\n")[0][:300]) from error
    shape = [1, *(side or ANY_SIDE for side in model.inputs[0].shape[1:])]
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ours, theirs = (np.asarray(one(pixels, training=False)) for one in (model, again))
    if np.abs(ours - theirs).max() > AS_BEFORE * max(float(np.std(ours)), 1e-6):
        raise _not_kept("what is made of it again computes something else")


def _not_kept(found: str) -> UsageError:
    return UsageError(
        "Keras cannot save and load this network of keras-hub",
        expected="layers that are made again by what they say of themselves",
        found=found,
        hint="extract and fit take it as it is; a head on its features is exported with --format onnx",
    )


def _theirs(model: Any) -> Iterator[Any]:
    """The layers of keras-hub in a model and in those nested in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _theirs(layer)
        elif _is_theirs(layer):
            yield layer


def _is_theirs(layer: Any) -> bool:
    return type(layer).__module__.partition(".")[0] == PACKAGE
