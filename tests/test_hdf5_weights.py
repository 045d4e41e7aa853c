"""Keras's weights files: plain ones are read without its loader, to the same values, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from probe.backbones import hdf5_weights, network
from probe.errors import WeightsError
from probe.tensorflow_setup import keras

KERNEL = "layers/conv2d_1/vars/0"


def small(filters: int = 4) -> Any:
    """Two convolutions, one without a bias, and a batch norm; its weights are drawn."""
    pixels = keras.Input((8, 8, 3))
    values = keras.layers.Conv2D(3, 3)(pixels)
    values = keras.layers.Conv2D(filters, 3, use_bias=False)(values)
    model = keras.Model(pixels, keras.layers.ReLU()(keras.layers.BatchNormalization()(values)))
    rng = np.random.default_rng(filters)
    model.set_weights([rng.normal(size=value.shape) for value in model.get_weights()])
    return model


def in_layers(model: Any, folder: Path) -> Path:
    path = folder / "small.weights.h5"
    model.save_weights(path)
    return path


def in_order(model: Any, folder: Path) -> Path:
    """As Keras wrote weights before its third version, which is how those of ImageNet are published."""
    path = folder / "small.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{number}:0" for number in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, values in zip(names, layer.get_weights(), strict=True):
                group[name] = values
    return path


@pytest.mark.parametrize("write", [in_layers, in_order])
def test_a_plain_file_gives_the_values_that_keras_gives(
    write: Callable[[Any, Path], Path], tmp_path: Path
) -> None:
    path, ours, theirs = write(small(), tmp_path), small(), small()
    for model in (ours, theirs):
        model.set_weights([np.zeros(value.shape) for value in model.get_weights()])
    assert hdf5_weights.fill(ours, path)
    theirs.load_weights(path)
    assert any(value.any() for value in ours.get_weights())
    for found, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def _missing(file: Any) -> None:
    del file[KERNEL]


def _one_more(file: Any) -> None:
    file["layers/conv2d_1/vars/1"] = np.zeros(4, np.float32)


def _one_above(file: Any) -> None:
    file["vars/0"] = np.zeros(4, np.float32)


def _of_another_shape(file: Any) -> None:
    values = file[KERNEL][()]
    del file[KERNEL]
    file[KERNEL] = values.reshape(values.shape[::-1])


def _a_link(file: Any) -> None:
    file.move(KERNEL, "elsewhere")
    file[KERNEL] = h5py.SoftLink("/elsewhere")


def _a_folder(file: Any) -> None:
    del file[KERNEL]
    file.create_group(KERNEL)


def _outside(file: Any) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    outside = str(Path(file.filename).with_name("outside.raw"))
    Path(outside).write_bytes(bytes(4 * int(np.prod(shape))))
    file.create_dataset(KERNEL, shape, np.float32, external=outside)


@pytest.mark.parametrize(
    "spoil", [_missing, _one_more, _one_above, _of_another_shape, _a_link, _a_folder, _outside]
)
def test_what_keras_refuses_is_refused(spoil: Callable[[Any], None], tmp_path: Path) -> None:
    path, model = in_layers(small(), tmp_path), small()
    with h5py.File(path, "a") as file:
        spoil(file)
    assert not hdf5_weights.fill(model, path)
    with pytest.raises(ValueError, match="could not be loaded"):
        model.load_weights(path)
    with pytest.raises(WeightsError, match="does not fit"):
        network.load_weights(model, path)


@pytest.mark.parametrize("write", [in_layers, in_order])
def test_the_file_of_another_network_changes_nothing(
    write: Callable[[Any, Path], Path], tmp_path: Path
) -> None:
    model, path = small(), write(small(filters=5), tmp_path)
    before = model.get_weights()
    assert not hdf5_weights.fill(model, path)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(WeightsError, match="does not fit"):
        network.load_weights(model, path)


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"cut"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = in_layers(small(), tmp_path)
    path.write_bytes(path.read_bytes()[:-500] if content == b"cut" else content)
    with pytest.raises(WeightsError, match="does not fit"):
        network.load_weights(small(), path)


def test_compressed_and_wider_arrays_are_left_to_keras(tmp_path: Path) -> None:
    given, model = small(), small(4)
    path = in_layers(given, tmp_path)
    model.set_weights([np.zeros(value.shape) for value in model.get_weights()])
    with h5py.File(path, "a") as file:
        kernel, norm = file[KERNEL][()], file["layers/batch_normalization/vars/0"][()]
        del file[KERNEL], file["layers/batch_normalization/vars/0"]
        file.create_dataset(KERNEL, data=kernel, compression="gzip")
        file["layers/batch_normalization/vars/0"] = norm.astype(np.float64)
    assert not hdf5_weights.fill(model, path)
    network.load_weights(model, path)
    for found, expected in zip(model.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_layer_with_layers_or_a_state_of_its_own_is_left_to_keras(tmp_path: Path) -> None:
    pixels = keras.Input((8, 8, 3))
    values = keras.Sequential([keras.layers.Conv2D(4, 3)])(pixels)
    for output in (values, keras.layers.Dropout(0.5)(pixels), keras.layers.Normalization()(pixels)):
        model = keras.Model(pixels, output)
        path = in_layers(model, tmp_path)
        assert not hdf5_weights.fill(model, path)
        network.load_weights(model, path)
