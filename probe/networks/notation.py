"""The notation: text to layers and back.

======================================  ==========================================================
``C<filters>[k<kernel>][s|v][/stride]``  convolution; kernel 3, same padding and stride 1 if not said
``D<units>``                             dense layer
``R`` ``T`` ``S`` ``L``                  ReLU, tanh, sigmoid, linear; no layer has one of its own
``B``                                    batch normalisation
``P<size>``                              max pooling
``DO<rate>``                             dropout, ``DO.5``
``F`` ``GAP`` ``GMP``                      flatten, global average and global max pooling
``U<factor>[b]``                         up-sampling by repetition, or bilinear
``RES<filters>[/stride]``                residual block: a 3×3 branch and a 1×1 branch, added
``[ … ]x<N>``                            N times what stands between the brackets, once without ``x``
``[ … ]+``                               what stands between the brackets is added to its input
======================================  ==========================================================

The output layer is implied by the task and never written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from probe.errors import UsageError
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

MAX_LAYERS = 1000
"""A string is input from outside: ``[[…]x99]x99`` must not be built."""

MAX_WIDTH = 65536

ACTIVATIONS = {"R": "relu", "T": "tanh", "S": "sigmoid", "L": "linear"}

_TOKEN = re.compile(r"\[|\](?:x\d+|\+)?|[^\s\[\]]+")
_PADDING = {"s": "same", "v": "valid"}
_FIXED: dict[str, Layer] = {
    "B": BatchNorm(),
    "F": Flatten(),
    "GAP": GlobalAveragePool(),
    "GMP": GlobalMaxPool(),
}
_EXPECTED = "tokens such as C32k3s  R  B  P2  DO.5  F  GAP  D256  U2  RES64  [ … ]x2  [ … ]+"


def _conv(match: re.Match[str]) -> Layer:
    filters, kernel, padding, stride = match.groups()
    return Conv(
        filters=_count(filters),
        kernel=_count(kernel or "3"),
        padding=_PADDING[padding or "s"],
        stride=_count(stride or "1"),
    )


def _residual(match: re.Match[str]) -> Layer:
    return Residual(filters=_count(match[1]), stride=_count(match[2] or "1"))


def _dropout(match: re.Match[str]) -> Layer:
    rate = float(match[1])
    if rate >= 1:
        raise ValueError("the dropout rate is a fraction below 1")
    return Dropout(rate)


_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Layer]], ...] = (
    (re.compile(r"C(\d+)(?:k(\d+))?([sv])?(?:/(\d+))?"), _conv),
    (re.compile(r"RES(\d+)(?:/(\d+))?"), _residual),
    (re.compile(r"DO(\d*\.?\d+)"), _dropout),
    (re.compile(r"D(\d+)"), lambda match: Dense(_count(match[1]))),
    (re.compile(r"P(\d+)"), lambda match: MaxPool(_count(match[1]))),
    (re.compile(r"U(\d+)(b?)"), lambda match: UpSample(_count(match[1]), bilinear=bool(match[2]))),
)


def parse(text: str) -> Network:
    """Read a network string.

    Raises UsageError with the string and a caret under the token that cannot be read. An empty string
    is the empty network: inputs go straight to the output layer.
    """
    # Same length, so that the caret stays under its token when the string was written over several lines.
    text = re.sub(r"\s", " ", text)
    open_groups: list[tuple[_Token, list[Layer]]] = []
    layers: list[Layer] = []
    for match in _TOKEN.finditer(text):
        token = _Token(match[0], match.start(), text)
        if token.word == "[":
            open_groups.append((token, layers))
            layers = []
        elif token.word.startswith("]"):
            if not open_groups:
                raise token.error("no bracket is open here")
            _, outer = open_groups.pop()
            outer.extend(_close(layers, token))
            layers = outer
        else:
            layers.append(_layer(token))
    if open_groups:
        raise open_groups[-1][0].error("this bracket is never closed")
    return tuple(layers)


def format_network(network: Network) -> str:
    """The canonical spelling of a network; ``parse(format_network(n)) == n``."""
    return " ".join(_spell(layer) for layer in network)


@dataclass(frozen=True)
class _Token:
    word: str
    start: int
    text: str

    def error(self, why: str) -> UsageError:
        # ProbeError puts "  found:    " before the first line; the caret has to start below the string.
        caret = " " * (len("  found:    ") + self.start) + "^" * len(self.word)
        return UsageError(
            f"cannot read {self.word!r} in the network string: {why}",
            expected=_EXPECTED,
            found=f"{self.text}\n{caret}",
        )


def _close(layers: list[Layer], token: _Token) -> list[Layer]:
    """What a finished group adds to the list around it."""
    if not layers:
        raise token.error("there is nothing between the brackets")
    if token.word == "]+":
        return [Added(tuple(layers))]
    digits = token.word[2:] or "1"
    # As text first: Python makes no number of thousands of digits.
    times = int(digits) if len(digits) <= len(str(MAX_LAYERS)) else MAX_LAYERS + 1
    if times < 1:
        raise token.error("a group is repeated at least once")
    group = tuple(layers)
    if times > MAX_LAYERS or times * _size(group) > MAX_LAYERS:
        raise token.error(f"more than {MAX_LAYERS} layers")
    return layers if times == 1 else [Repeat(group, times)]


def _size(network: Network) -> int:
    """Layers all told, those inside an addition too."""
    return sum(_size(layer.layers) if isinstance(layer, Added) else 1 for layer in expand(network))


def _layer(token: _Token) -> Layer:
    word = token.word
    if word in ACTIVATIONS:
        return Activation(ACTIVATIONS[word])
    if word in _FIXED:
        return _FIXED[word]
    for pattern, make in _PATTERNS:
        match = pattern.fullmatch(word)
        if match:
            try:
                return make(match)
            except ValueError as error:
                raise token.error(str(error)) from None
    raise token.error("there is no such layer")


def _count(digits: str) -> int:
    if len(digits) > len(str(MAX_WIDTH)) or not 1 <= int(digits) <= MAX_WIDTH:
        raise ValueError(f"numbers go from 1 to {MAX_WIDTH}")
    return int(digits)


def _spell(layer: Layer) -> str:
    match layer:
        case Conv(filters, kernel, padding, stride):
            return f"C{filters}k{kernel}{padding[0]}" + (f"/{stride}" if stride > 1 else "")
        case Dense(units):
            return f"D{units}"
        case Activation(name):
            return next(word for word, known in ACTIVATIONS.items() if known == name)
        case MaxPool(size):
            return f"P{size}"
        case Dropout(rate):
            return "DO" + f"{rate:.12f}".rstrip("0").rstrip(".").lstrip("0") if rate else "DO0"
        case UpSample(factor, bilinear):
            return f"U{factor}" + ("b" if bilinear else "")
        case Residual(filters, stride):
            return f"RES{filters}" + (f"/{stride}" if stride > 1 else "")
        case Added(layers):
            return f"[{format_network(layers)}]+"
        case Repeat(layers, times):
            return f"[{format_network(layers)}]x{times}"
        case _:
            return next(word for word, fixed in _FIXED.items() if fixed == layer)
