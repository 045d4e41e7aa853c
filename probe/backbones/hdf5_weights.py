"""The plain case of Keras's weights files, in both forms of its HDF5: every array to its layer at once.

Keras's own loader compares the attributes of every layer with those of another that it makes for the
purpose, and looks every array up several times: with a thousand small arrays most of the time goes there.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py

from probe.registry import load_object


def fill(model: Any, path: Path) -> bool:
    """Give all weights of `model` their values from `path`; False where nothing was done.

    Keras has to load what is not, array for array, of this network's layers and stored as it is: it knows
    more kinds of files and layers, and says what is wrong.
    """
    if path.suffix != ".h5" or not all(_is_plain(layer) for layer in model.layers):
        return False
    variables = [variable for layer in model.layers for variable in layer.weights]
    find = _by_class if path.name.endswith(".weights.h5") else _by_order
    try:
        with h5py.File(path) as file:
            found: dict[str, Any] = {}
            file.visititems(lambda name, item: found.update({name: item}))  # not what links lead to
            arrays: list[Any] = [found.get(name) for name in find(model, file, found)]
            if len(arrays) != len(variables) or not all(map(_fits, arrays, variables)):
                return False
            values = [array[()] for array in arrays]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return False
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return True


def _is_plain(layer: Any) -> bool:
    """Whether a layer holds its weights and nothing else that is stored, and needs nothing done after."""
    return (
        len(list(layer._flatten_layers())) == 1
        and len(layer.variables) == len(layer.weights)
        and not hasattr(layer, "finalize_state")
    )


def _by_class(model: Any, file: Any, found: dict[str, Any]) -> list[str]:
    """Names of the arrays in a ``.weights.h5``, which numbers the layers of a class; [] if others."""
    to_snake_case = load_object("keras.src.utils.naming:to_snake_case")
    names, seen = [], Counter[str]()
    if len(found.get("vars", ())):
        return []
    for layer in model.layers:
        kind = to_snake_case(type(layer).__name__)
        place = f"layers/{kind}_{seen[kind]}/vars" if seen[kind] else f"layers/{kind}/vars"
        seen[kind] += 1
        if len(found.get(place, ())) != len(layer.weights):
            return []
        names += [f"{place}/{number}" for number in range(len(layer.weights))]
    return names


def _by_order(model: Any, file: Any, found: dict[str, Any]) -> list[str]:
    """Names of the arrays in an ``.h5`` of earlier versions, which lists layers in order; [] if others."""
    listed = {name: _listed(found[name], "weight_names") for name in _listed(file, "layer_names")}
    stored = [(layer, names) for layer, names in listed.items() if names]
    wanted = [len(layer.weights) for layer in model.layers if layer.weights]
    above = found.get("top_level_model_weights")
    if [len(names) for _, names in stored] != wanted or (above and _listed(above, "weight_names")):
        return []
    return [f"{layer}/{name}" for layer, names in stored for name in names]


def _listed(group: Any, name: str) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else text for text in group.attrs.get(name, ())]


def _fits(array: Any, variable: Any) -> bool:
    """Whether an array in a file is what `variable` holds, in one piece of the file itself."""
    return (
        isinstance(array, h5py.Dataset)
        and array.shape == tuple(variable.shape)
        and array.dtype == variable.dtype
        and array.id.get_offset() is not None
        and array.id.get_storage_size() == array.nbytes
    )
