"""Presets of keras-hub as backbones: small ones of each family, against keras-hub's own call."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import pytest
from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder
from keras_hub.src.models.metaclip_2.metaclip_2_vision_encoder import MetaCLIP2VisionEncoder
from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder
from numpy.typing import NDArray

from probe.backbones import build_embedder, find_row, list_outputs, load, resolve
from probe.config import Home
from probe.errors import ProbeError, UsageError, WeightsError
from probe.tensorflow_setup import keras
from tests.shell import PHOTOS, Shell

HOME = Home(Path("no-such-home"))
SIDE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
UNIT = PIXELS / np.float32(255)
models = keras_hub.models

SIZES = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "image_shape": (SIDE, SIDE, 3)}
TOWER = {**SIZES, "intermediate_dim": 32}
FAMILIES: dict[str, Callable[[], Any]] = {
    "vit": lambda: models.ViTBackbone(mlp_dim=32, **SIZES),
    "vit_without_class": lambda: models.ViTBackbone(mlp_dim=32, use_class_token=False, **SIZES),
    "deit": lambda: models.DeiTBackbone(**TOWER),
    "dinov2": lambda: models.DINOV2Backbone(num_register_tokens=2, **TOWER),
    "dinov3": lambda: models.DINOV3Backbone(num_register_tokens=2, **TOWER),
    "clip": lambda: CLIPVisionEncoder(**TOWER),
    "metaclip": lambda: MetaCLIP2VisionEncoder(**TOWER),
    "siglip": lambda: SigLIPVisionEncoder(**TOWER),
    "swin": lambda: models.SwinTransformerBackbone(
        image_shape=(SIDE, SIDE, 3), patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4
    ),
    "resnet": lambda: models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    ),
    "efficientnet": lambda: models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 4],
        stackwise_strides=[1, 2],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_block_types=["v1", "v1"],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        image_shape=(None, None, 3),
    ),
}
BEFORE = {"vit": 1, "deit": 2, "dinov2": 3, "dinov3": 3, "clip": 1, "metaclip": 1}
"""Tokens that stand before the patches: class, distillation, registers."""


def write(folder: Path, family: str, **converter: Any) -> Any:
    """A preset of random weights in `folder`, and its network."""
    keras.utils.set_random_seed(0)
    network = FAMILIES[family]()
    network.save_to_preset(str(folder))
    if converter:
        keras_hub.layers.ImageConverter(**converter).save_to_preset(str(folder))
    return network


def features(folder: Path, *outputs: str, **choices: Any) -> list[NDArray[Any]]:
    choices = {"preprocess": "unit", "precision": "fp32", "size": SIDE, **choices}
    spec = resolve(f"hub:{folder}", outputs=outputs or None, home=HOME, **choices)
    return list(load(spec, batch_size=3)(PIXELS).values())


def own_call(network: Any, values: Any = UNIT) -> NDArray[Any]:
    named = network.input if isinstance(network.input, dict) else None
    inputs = dict.fromkeys(named, values) if named else values
    return np.asarray(network(inputs, training=False))


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, NDArray[Any]]]:
    """Family -> its preset, made once, and what keras-hub computes of `UNIT` with it."""

    @cache
    def made(family: str) -> tuple[Path, NDArray[Any]]:
        folder = tmp_path_factory.mktemp("presets") / family
        return folder, own_call(write(folder, family))

    return made


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in BEFORE])
def test_the_default_output_is_what_keras_hub_computes(preset: Any, family: str) -> None:
    folder, theirs = preset(family)
    (ours,) = features(folder)
    theirs = theirs.mean(axis=tuple(range(1, theirs.ndim - 1))) if theirs.ndim > 2 else theirs
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("family", BEFORE)
def test_class_token_and_patches_are_keras_hubs_and_registers_are_in_no_mean(
    preset: Any, family: str
) -> None:
    folder, theirs = preset(family)
    assert find_row(str(folder)).default_output == "cls"
    patches = theirs[:, BEFORE[family] :]
    cls, mean, tokens, first = features(folder, "cls", "mean", "tokens:map", "block1:map")
    np.testing.assert_allclose(cls, theirs[:, 0], atol=1e-5)
    np.testing.assert_allclose(mean, patches.mean(1), atol=1e-5)
    np.testing.assert_allclose(tokens, patches.reshape(3, 4, 4, 16), atol=1e-5)
    assert first.shape == tokens.shape
    assert np.abs(first - tokens).max() > 1e-3


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("vit", {"block1", "block2", "tokens", "mean", "cls"}),
        ("siglip", {"block1", "block2", "mean", "pooled"}),
        ("resnet", {"block2", "block3", "avg_pool"}),
    ],
)
def test_outputs_are_listed_by_the_names_people_use(preset: Any, family: str, names: set[str]) -> None:
    listed = {output.name for output in list_outputs(f"hub:{preset(family)[0]}", size=SIDE, home=HOME)}
    assert names <= listed


def test_size_and_values_are_those_of_the_picture_converter(tmp_path: Path) -> None:
    scale, offset = [0.02, 0.01, 0.03], [-1.0, -2.0, 0.5]
    network = write(tmp_path / "r", "resnet", image_size=(SIDE, SIDE), scale=scale, offset=offset)
    row = find_row(f"hub:{tmp_path / 'r'}")
    assert row.size == SIDE
    (ours,) = features(tmp_path / "r", preprocess=None, size=None)
    theirs = own_call(network, PIXELS * np.float32(scale) + np.float32(offset)).mean((1, 2))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_weights_are_all_files_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", "vit")
    first = resolve(f"hub:{tmp_path / 'a'}", preprocess="unit", home=HOME)
    (tmp_path / "a").rename(tmp_path / "b")
    assert resolve(f"hub:{tmp_path / 'b'}", preprocess="unit", home=HOME).weights == first.weights
    with pytest.raises(WeightsError):
        load(first, batch_size=3)
    weights = bytearray((tmp_path / "b" / "model.weights.h5").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "b" / "model.weights.h5").write_bytes(weights)
    assert resolve(f"hub:{tmp_path / 'b'}", preprocess="unit", home=HOME).weights != first.weights


def test_extract_fit_and_predict(tmp_path: Path, shell: Shell) -> None:
    write(tmp_path / "vit", "vit", image_size=(SIDE, SIDE), scale=1 / 127.5, offset=-1.0)
    made = shell.json("extract", "--backbone", f"hub:{tmp_path / 'vit'}", "--split", "0.6,0,0.4", PHOTOS)
    assert made["rows"] > 0
    shell("fit", "logreg", "--c", "0.1")
    picture = next(PHOTOS.rglob("*.jpg"))
    assert shell.json("predict", "latest", picture)
    (tmp_path / "vit").rename(tmp_path / "elsewhere")
    shell("predict", "latest", picture, code=1)
    assert "hub:vit" in shell.error


def text_preset(folder: Path) -> None:
    models.BertBackbone(
        vocabulary_size=8, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    ).save_to_preset(str(folder))


def no_json(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("[1]")


def no_weights(folder: Path) -> None:
    write(folder, "vit")
    (folder / "model.weights.h5").unlink()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text_preset, "no backbone for pictures"),
        (no_json, "cannot be read as a part of a preset"),
        (no_weights, "cannot be loaded"),
        (lambda folder: None, "there is no folder"),
    ],
)
def test_what_is_no_preset_of_pictures_is_one_message(
    tmp_path: Path, make: Callable[[Path], None], says: str
) -> None:
    make(tmp_path / "p")
    with pytest.raises(ProbeError, match=says):
        features(tmp_path / "p")


def test_an_unknown_name_is_no_download(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="knows no preset dinov9"):
        resolve("hub:dinov9", home=HOME)


def test_there_is_nothing_to_train_in_a_preset(preset: Any) -> None:
    spec = resolve(f"hub:{preset('vit')[0]}", preprocess="unit", home=HOME)
    with pytest.raises(UsageError, match="computed as it is"):
        build_embedder(spec)
