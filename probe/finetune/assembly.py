"""The network that is trained: the part above the cut, a head, and without a cache the frozen part too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from probe.errors import UsageError
from probe.finetune.cut import Cut
from probe.finetune.head import HEAD, HeadSpec
from probe.finetune.plan import Prepared, TuneSettings
from probe.finetune.recompute import recomputed
from probe.train.rules import POLICIES


@dataclass(frozen=True)
class Assembly:
    """A network ready to be trained.

    Attributes
    ----------
    model : what is trained; its inputs are the crossing tensors, or preprocessed pixels without a cache.
    body : the copied part of the trunk above the cut; None when nothing of it lies there.
    """

    cut: Cut
    head: HeadSpec
    model: Any
    body: Any | None

    def train_trunk(self, wanted: bool) -> None:
        """Whether the next training moves the part above the cut, or the head alone."""
        if self.body is not None:
            self.body.trainable = wanted

    def set_output(self, weights: Any, bias: Any) -> None:
        """Start the output layer from a fitted linear classifier: (D, C) and (C,)."""
        if self.head.binary:
            weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
        self.model.get_layer(f"{HEAD}output").set_weights([weights, bias])

    def whole(self) -> Any:
        """The network from preprocessed pixels to probabilities in float32, with the weights as they are now.

        The trunk handed to `assemble` takes the trained weights: nothing else shares them any more.
        """
        from probe.tensorflow_setup import keras

        trunk = self.cut.trunk
        for layer in self.body.layers if self.body is not None else ():
            if layer.weights:
                trunk.get_layer(layer.name).set_weights(layer.get_weights())
        network = keras.Model(trunk.input, self.head.apply(trunk.output, policy="float32", seed=0))
        for layer in self.model.layers:
            if layer.name.startswith(HEAD) and layer.weights:
                network.get_layer(layer.name).set_weights(layer.get_weights())
        return network


def assemble(ready: Prepared, devices: Sequence[str] = ()) -> Assembly:
    """Put the network together: from the crossing tensors, or without a cache from preprocessed pixels.

    Weights and output are float32 at every precision. Batch normalisation above the cut stays in inference
    mode unless ``train_bn`` asks for batch statistics; in the frozen part it always does.

    `devices` train it together (``tf.distribute.MirroredStrategy``).
    """
    from probe.networks.builder import clone
    from probe.tensorflow_setup import keras, pin

    pin()
    job, cut = ready.job, ready.cut
    policy, size = POLICIES[job.precision], job.backbone.size
    with _together(tuple(devices)).scope() if len(devices) > 1 else nullcontext():
        if ready.plan.prefix_cache:
            inputs = [keras.Input(shape, name=name) for name, shape in ready.plan.crossing.items()]
            tensors = inputs
        else:
            inputs = [keras.Input((size, size, 3), name="pixels")]
            tensors = inputs
            if len(cut.crossing) > 1 or not cut.input_crosses:
                tensors = _in_inference(clone(cut.prefix(), policy, trainable=False))(inputs[0])
        suffix = cut.suffix()
        body = _copy(suffix, ready, policy) if suffix is not None else None
        features = _single(tensors)
        if body is not None:
            features = _trained(body, job.settings)(features)
        output = ready.head.apply(features, policy=policy, seed=job.settings.seed)
        model = keras.Model(_single(inputs), output)
    return Assembly(cut, ready.head, model, body)


def _copy(suffix: Any, ready: Prepared, policy: str) -> Any:
    """The part above the cut, with the weights of `suffix`; a cache has only the places that are read."""
    from probe.networks.builder import clone
    from probe.tensorflow_setup import keras

    cut, shapes = ready.cut, ready.plan.crossing
    sparse = [name for name, step in cut.steps.items() if step > 1] if ready.plan.prefix_cache else []
    dense = {layer.name for name in sparse for layer in cut.readers[name]}
    inputs = _single([keras.Input(shape) for shape in shapes.values()]) if dense else None
    return clone(suffix, policy, trainable=True, inputs=inputs, dense=dense)


def choose_devices(wanted: Sequence[str] | None) -> list[str]:
    """The devices wanted, such as ``GPU:0``; all GPUs of this process where none are named.

    UsageError lists the devices there are where one is not among them.
    """
    from probe.tensorflow_setup import tf

    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    for name in wanted or ():
        if name not in known:
            raise UsageError(f"there is no device {name}", expected="some of " + ", ".join(known))
    return list(wanted) if wanted else [name for name in known if name.startswith("GPU")]


@cache
def _together(devices: tuple[str, ...]) -> Any:
    """The strategy of these devices, one a process: NCCL does not survive a second one of the same GPUs."""
    from probe.tensorflow_setup import tf

    return tf.distribute.MirroredStrategy(list(devices))


def _trained(body: Any, settings: TuneSettings) -> Any:
    """The part above the cut as a layer that is called as the settings say."""
    if settings.recompute:
        return recomputed(body, training=settings.train_bn)
    return body if settings.train_bn else _in_inference(body)


def _in_inference(model: Any) -> Any:
    """`model` as a layer that computes the same in training as in prediction.

    ``model(x, training=False)`` does not do that in Keras 3: what is recorded with a call of a functional
    model is overruled by the ``training=True`` of the training step, and batch normalisation moves again.
    """
    from probe.tensorflow_setup import keras

    class Inference(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(dtype="float32", autocast=False, name=f"inference_{model.name}")
            self.inner = model

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs, training=False)

    return Inference()


def _single(tensors: Any) -> Any:
    """One tensor out of its list; several stay a list."""
    return tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors
