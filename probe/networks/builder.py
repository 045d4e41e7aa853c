"""From a parsed network to Keras layers, and from a model to its copy under another precision.

Only this file of the room and `bfloat16` import Keras.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probe.errors import UsageError
from probe.networks.bfloat16 import IN_PLACE_OF, fold_norms
from probe.networks.layers import (
    Activation,
    Added,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Network,
    Repeat,
    Residual,
    UpSample,
    expand,
)
from probe.networks.notation import format_network
from probe.networks.places import picks_places
from probe.tensorflow_setup import keras, pin


def build(
    network: Network,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    dtype: str = "float32",
    kernel_l2: float = 0.0,
    seed: int = 0,
    binary: bool = False,
) -> keras.Model:
    """A Keras model of `network` on inputs of `input_shape`, with its output layer.

    Parameters
    ----------
    input_shape : (H, W, channels), or (D,) for a head on pooled features; no batch axis.
    classes : width C of the softmax output.
    dtype : Keras dtype policy of the hidden layers, such as ``mixed_bfloat16``. The output is always
        float32, because a softmax in half precision rounds away the log-likelihood.
    kernel_l2 : L2 penalty on every kernel but that of the output layer.
    seed : of the initial weights and of dropout.
    binary : one sigmoid unit in place of two softmax units.

    Raises UsageError when a layer does not fit what comes before it.
    """
    pin()
    inputs = keras.Input(input_shape, name="input")
    hidden = apply(network, inputs, dtype=dtype, kernel_l2=kernel_l2, seed=seed)
    return keras.Model(inputs, output_layer(hidden, classes, seed=seed, binary=binary))


def build_metrics(model: keras.Model) -> None:
    """Make the metrics of a compiled classifier (N, …) -> (N, C) of labels (N,) before its first step.

    Keras makes them within that step otherwise, and traces a step twice that has made variables: forward,
    backward and update. The optimiser's have to be there as well.
    """
    model.compute_metrics(None, np.zeros(1, np.int32), np.zeros((1, *model.output_shape[1:]), np.float32))
    model.reset_metrics()


def apply(
    network: Network,
    tensor: Any,
    *,
    dtype: str = "float32",
    kernel_l2: float = 0.0,
    seed: int = 0,
    prefix: str = "",
) -> Any:
    """Put the layers of `network` on a Keras tensor, (B, H, W, C) or (B, D); returns the last tensor.

    `prefix` goes before the name of every layer, so that a head can be told from the trunk below it.
    Raises UsageError when a layer does not fit what comes before it.
    """
    pin()
    return _Layers(dtype, kernel_l2, seed, prefix).stack(network, tensor)


def output_layer(
    tensor: Any, classes: int, *, seed: int = 0, binary: bool = False, logits: bool = False, prefix: str = ""
) -> Any:
    """The implied output: softmax over `classes`, or one sigmoid unit; float32 (B, C) or (B, 1).

    With `logits` the activation is left to the caller.
    """
    if len(tensor.shape) != 2:
        raise UsageError(
            "the network ends on a feature map, so no output layer can follow",
            found=f"a feature map of {_size(tensor.shape)}",
            hint="end the network string with F, GAP or GMP",
        )
    units, activation = (1, "sigmoid") if binary else (classes, "softmax")
    return keras.layers.Dense(
        units,
        activation=None if logits else activation,
        dtype="float32",
        kernel_initializer=keras.initializers.GlorotUniform(seed=_layer_seed(seed, -1)),
        name=f"{prefix}output",
    )(tensor)


def clone(
    model: Any, policy: str, *, trainable: bool, inputs: Any = None, dense: Collection[str] = ()
) -> Any:
    """A copy of a functional model with its weights, computing under a Keras dtype policy.

    What is trained has layers of `probe.networks.bfloat16` where there are some: they give the outputs of
    Keras's up to rounding, and their gradients by another way.

    `inputs` are Keras tensors that it stands on, by default alike those of `model`. Convolutions named in
    `dense` read every place: of their inputs there are those places alone that they read in `model`.

    Made in the caller's ``tf.distribute`` scope, which the original, built elsewhere, is not in.
    """

    def copy(layer: Any) -> Any:
        kind: Any = type(layer)
        if not isinstance(layer, keras.layers.Layer):  # ``a + b``
            return kind.from_config(layer.get_config())
        if trainable:
            kind = IN_PLACE_OF.get(kind, kind)
        strides = {"strides": (1, 1)} if layer.name in dense else {}
        made = kind.from_config({**layer.get_config(), "dtype": policy, **strides})
        made.trainable = trainable
        return made

    pin()
    copied = keras.models.clone_model(model, input_tensors=inputs, clone_function=copy)
    copied.set_weights(model.get_weights())
    fold_norms(copied)
    return copied


@dataclass
class _Layers:
    """Makes Keras layers with running names and a seed each."""

    dtype: str
    kernel_l2: float
    seed: int
    prefix: str
    made: int = field(default=0, init=False)

    def stack(self, network: Network, tensor: Any) -> Any:
        """The layers one after the other, each checked against what comes before it."""
        for layer in expand(network):
            _check_fits(layer, tensor.shape)
            tensor = self.add(layer, tensor)
        return tensor

    def add(self, layer: Layer, tensor: Any) -> Any:
        match layer:
            case Conv(filters, kernel, padding, stride):
                return self._conv(tensor, filters, kernel, padding, stride)
            case Dense(units):
                return self._make("dense", keras.layers.Dense, units, **self._kernel())(tensor)
            case Activation(name):
                return self._make(name, keras.layers.Activation, name)(tensor)
            case BatchNorm():
                return self._make("bn", keras.layers.BatchNormalization)(tensor)
            case MaxPool(size):
                return self._make("pool", keras.layers.MaxPooling2D, size)(tensor)
            case Dropout(rate):
                seed = _layer_seed(self.seed, self.made)
                return self._make("dropout", keras.layers.Dropout, rate, seed=seed)(tensor)
            case Flatten():
                return self._make("flatten", keras.layers.Flatten)(tensor)
            case GlobalAveragePool():
                return self._make("gap", keras.layers.GlobalAveragePooling2D)(tensor)
            case GlobalMaxPool():
                return self._make("gmp", keras.layers.GlobalMaxPooling2D)(tensor)
            case UpSample(factor, bilinear):
                how = "bilinear" if bilinear else "nearest"
                return self._make("up", keras.layers.UpSampling2D, factor, interpolation=how)(tensor)
            case Residual(filters, stride):
                return self._residual(tensor, filters, stride)
            case Added(layers):
                return self._added(tensor, layers)
            case Repeat():
                raise TypeError("repetitions are expanded before they are built")

    def _residual(self, tensor: Any, filters: int, stride: int) -> Any:
        relu, norm = Activation("relu"), BatchNorm()
        wide = self.add(relu, self.add(norm, self._conv(tensor, filters, 3, "same", stride)))
        wide = self.add(norm, self._conv(wide, filters, 3, "same", 1))
        narrow = self.add(norm, self._conv(tensor, filters, 1, "same", stride))
        return self.add(relu, self._make("add", keras.layers.Add)([wide, narrow]))

    def _added(self, tensor: Any, layers: Network) -> Any:
        made = self.stack(layers, tensor)
        if made.shape != tensor.shape:
            raise UsageError(
                f"{format_network((Added(layers),))} cannot be added to its input",
                expected=_size(tensor.shape) + f" with {tensor.shape[-1]} channels",
                found=_size(made.shape) + f" with {made.shape[-1]} channels",
            )
        return self._make("add", keras.layers.Add)([made, tensor])

    def _conv(self, tensor: Any, filters: int, kernel: int, padding: str, stride: int) -> Any:
        if picks_places(kernel, stride, tensor.shape[-1]):
            name = f"{self.prefix}{self.made + 1:02d}_places"  # not counted: positions decide on seeds
            tensor = keras.layers.AveragePooling2D(1, stride, dtype=self.dtype, name=name)(tensor)
            stride = 1
        layer = self._make(
            "conv", keras.layers.Conv2D, filters, kernel, padding=padding, strides=stride, **self._kernel()
        )
        return layer(tensor)

    def _kernel(self) -> dict[str, Any]:
        return {
            "kernel_initializer": keras.initializers.GlorotUniform(seed=_layer_seed(self.seed, self.made)),
            "kernel_regularizer": keras.regularizers.L2(self.kernel_l2) if self.kernel_l2 else None,
        }

    def _make(self, kind: str, layer_class: Any, *args: Any, **kwargs: Any) -> Any:
        self.made += 1
        return layer_class(*args, dtype=self.dtype, name=f"{self.prefix}{self.made:02d}_{kind}", **kwargs)


def _layer_seed(seed: int, position: int) -> int:
    # Any fixed rule will do as long as two layers never share a seed: equal shapes would start equal.
    return (seed * 1_000_003 + position + 1) % (2**31 - 1)


def _check_fits(layer: Layer, shape: tuple[int | None, ...]) -> None:
    """Raise UsageError when `layer` cannot follow a tensor of `shape` (B, H, W, C) or (B, D)."""
    is_map = len(shape) == 4
    token = format_network((layer,))
    if isinstance(layer, Dense) and is_map:
        raise UsageError(
            f"{token} needs a vector",
            found=f"a feature map of {_size(shape)}",
            hint=f"put F, GAP or GMP before {token}",
        )
    if (
        isinstance(layer, Conv | MaxPool | GlobalAveragePool | GlobalMaxPool | UpSample | Residual)
        and not is_map
    ):
        raise UsageError(f"{token} needs a feature map", found=f"a vector of {shape[-1]} values")
    window = _smallest_side(layer)
    if is_map and any(side is not None and side < window for side in shape[1:3]):
        raise UsageError(
            f"nothing is left for {token} to look at",
            expected=f"a feature map of at least {window}×{window}",
            found=f"a feature map of {_size(shape)}",
            hint="use a larger input, fewer pools or same padding",
        )


def _smallest_side(layer: Layer) -> int:
    match layer:
        case Conv(_, kernel, "valid", _):
            return kernel
        case MaxPool(size):
            return size
        case _:
            return 1


def _size(shape: tuple[int | None, ...]) -> str:
    return "×".join("?" if side is None else str(side) for side in shape[1:])
