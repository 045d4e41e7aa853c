"""Presets of keras-hub as backbones: small ones of each family, against keras-hub's own call."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from probe import backbones
from probe.backbones import find_row, load, resolve
from probe.cli import main
from probe.config import Home
from probe.errors import ProbeError, UsageError, WeightsError
from probe.finetune.cut import Cut, cut_network
from probe.finetune.recompute import values_of
from probe.fit.export import export
from probe.fit.predict import load_predictor
from probe.networks.builder import clone
from probe.registry import load_object
from probe.runs import find_run
from probe.tensorflow_setup import keras
from tests.shell import PHOTOS, Shell

HOME = Home(Path("no-such-home"))
SIDE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
UNIT = PIXELS / np.float32(255)


def hub() -> Any:
    """keras-hub, which takes seconds to import: who collects these tests for another goes without."""
    import keras_hub

    return keras_hub


def encoder(family: str, name: str) -> Any:
    """A tower that keras-hub does not make public."""
    return load_object(f"keras_hub.src.models.{family}.{family}_vision_encoder:{name}")


SIZES = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "image_shape": (SIDE, SIDE, 3)}
TOWER = {**SIZES, "intermediate_dim": 32}
FAMILIES: dict[str, Callable[[], Any]] = {
    "vit": lambda: hub().models.ViTBackbone(mlp_dim=32, **SIZES),
    "vit_without_class": lambda: hub().models.ViTBackbone(
        mlp_dim=32, use_class_token=False, use_patch_bias=False, **SIZES
    ),
    "deit": lambda: hub().models.DeiTBackbone(**TOWER),
    "dinov2": lambda: hub().models.DINOV2Backbone(num_register_tokens=2, **TOWER),
    "dinov3": lambda: hub().models.DINOV3Backbone(num_register_tokens=2, **TOWER),
    "clip": lambda: encoder("clip", "CLIPVisionEncoder")(**TOWER),
    "metaclip": lambda: encoder("metaclip_2", "MetaCLIP2VisionEncoder")(**TOWER),
    "siglip": lambda: encoder("siglip", "SigLIPVisionEncoder")(**TOWER),
    "swin": lambda: hub().models.SwinTransformerBackbone(
        image_shape=(SIDE, SIDE, 3), patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4
    ),
    "resnet": lambda: hub().models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    ),
    "efficientnet": lambda: hub().models.EfficientNetBackbone(
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
        hub().layers.ImageConverter(**converter).save_to_preset(str(folder))
    return network


def features(folder: Path, *outputs: str, **choices: Any) -> list[NDArray[Any]]:
    """As an extraction computes them."""
    choices = {"preprocess": "unit", "precision": "fp32", "size": SIDE, **choices}
    spec = resolve(f"hub:{folder}", outputs=outputs or None, home=HOME, **choices)
    return list(load(spec, batch_size=3)(PIXELS).values())


def own_call(network: Any, values: Any = UNIT) -> NDArray[Any]:
    named = network.input if isinstance(network.input, dict) else None
    inputs = dict.fromkeys(named, values) if named else values
    return np.asarray(network(inputs, training=False))


@dataclass(frozen=True)
class Preset:
    """A preset in a folder, what keras-hub computes of `UNIT` with it, and our network of it."""

    folder: Path
    own: Any
    theirs: NDArray[Any]
    row: backbones.Backbone
    network: Any

    def ours(self, *outputs: str) -> list[NDArray[Any]]:
        tensors = {output: self.network.get_layer(output).output for output in outputs}
        found = keras.Model(self.network.inputs, tensors)(UNIT)
        return [np.asarray(found[output]) for output in outputs]

    def cut(self, unfreeze: str) -> Cut:
        stages = backbones.stages_of(self.row, self.network)
        return cut_network(self.network, stages, unfreeze=unfreeze, trunk=self.row.default_output)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Preset]:
    """Family -> its preset, made once."""

    @cache
    def made(family: str) -> Preset:
        folder = tmp_path_factory.mktemp("presets") / family
        own = write(folder, family)
        spec = resolve(f"hub:{folder}", preprocess="unit", precision="fp32", size=SIDE, home=HOME)
        network = backbones.build_network(spec)
        return Preset(folder, own, own_call(own), find_row(str(folder)), network)

    return made


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in BEFORE])
def test_the_default_output_is_what_keras_hub_computes(preset: Any, family: str) -> None:
    made = preset(family)
    (ours,), theirs = made.ours(made.row.default_output), made.theirs
    theirs = theirs.mean(axis=tuple(range(1, theirs.ndim - 1))) if theirs.ndim > 2 else theirs
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("family", BEFORE)
def test_class_token_and_patches_are_keras_hubs_and_registers_are_in_no_mean(
    preset: Any, family: str
) -> None:
    made = preset(family)
    assert made.row.default_output == "cls"
    patches = made.theirs[:, BEFORE[family] :]
    cls, mean, tokens, first = made.ours("cls", "mean", "tokens", "block1")
    np.testing.assert_allclose(cls, made.theirs[:, 0], atol=1e-5)
    np.testing.assert_allclose(mean, patches.mean(1), atol=1e-5)
    np.testing.assert_allclose(tokens, patches.reshape(3, 4, 4, 16), atol=1e-5)
    assert first.shape == tokens.shape
    assert np.abs(first - tokens).max() > 1e-3


def test_the_tokens_of_siglip_are_those_that_its_pooling_takes(preset: Any) -> None:
    made = preset("siglip")
    theirs = own_call(keras.Model(made.own.inputs, made.own.post_layer_norm.output))
    tokens, mean = features(made.folder, "tokens:map", "mean")
    np.testing.assert_allclose(tokens, theirs.reshape(3, 4, 4, 16), atol=1e-5)
    np.testing.assert_allclose(mean, theirs.mean(1), atol=1e-5)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"vit", "metaclip", "efficientnet"}))
def test_a_network_is_cut_below_its_last_block_and_saved(preset: Any, family: str, tmp_path: Path) -> None:
    cut = preset(family).cut("last:1blocks")
    assert cut.has_prefix
    assert len(cut.crossing) == 1
    whole = np.asarray(cut.trunk(UNIT))
    upper = clone(cut.suffix(), "float32", trainable=True)
    np.testing.assert_allclose(upper(cut.prefix()(UNIT)), whole, atol=1e-5)
    path = tmp_path / "trunk.keras"
    cut.trunk.save(path)
    spec = resolve(str(path), preprocess="unit", precision="fp32", size=SIDE, home=HOME)
    loaded = backbones.build_network(spec)
    np.testing.assert_array_equal(loaded(UNIT), whole)


def test_a_block_is_what_is_listed_as_one(preset: Any) -> None:
    for family, blocks in (("vit", ["stem", "block1", "block2"]), ("resnet", ["block2", "block3"])):
        made = preset(family)
        assert list(backbones.stages_of(made.row, made.network)) == blocks
        listed = {output.name for output in backbones.list_outputs(str(made.folder), size=SIDE, home=HOME)}
        assert {*blocks, made.row.default_output} <= listed
    vit = preset("vit")
    assert vit.cut("last:2blocks").crossing == ("stem",)
    assert vit.cut("last:0blocks").frozen == vit.cut("none").frozen
    with pytest.raises(UsageError, match="N from 0 to 2: block1, block2"):
        vit.cut("last:3blocks")


def test_the_memory_of_a_block_is_that_of_the_layers_within(preset: Any) -> None:
    block = preset("vit").network.get_layer("transformer_block_1")
    tokens, hidden, mlp, heads = 17, 16, 32, 2
    within = tokens * (2 * hidden + 4 * hidden + mlp + hidden) + 2 * heads * tokens**2
    assert values_of(block) == tokens * hidden + within


def test_what_keras_hub_saves_otherwise_than_it_computes_is_not_trained(preset: Any) -> None:
    cut = preset("dinov2").cut("all")
    with pytest.raises(UsageError, match="cannot be trained"):
        backbones.expect_kept(cut.trunk, trained=cut.trunk.layers)


def test_a_network_that_cannot_be_made_again_is_refused() -> None:
    class Own(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs

    Own.__module__ = "keras_hub.own"
    pixels = keras.Input((4, 4, 3))
    with pytest.raises(UsageError, match="cannot save and load"):
        backbones.expect_kept(keras.Model(pixels, Own()(pixels)))


def test_size_and_values_are_those_of_the_picture_converter(tmp_path: Path) -> None:
    scale, offset = [0.02, 0.01, 0.03], [-1.0, -2.0, 0.5]
    network = write(tmp_path / "r", "resnet", image_size=(SIDE, SIDE), scale=scale, offset=offset)
    row = find_row(f"hub:{tmp_path / 'r'}")
    assert row.size == SIDE
    (ours,) = features(tmp_path / "r", preprocess=None, size=None)
    theirs = own_call(network, PIXELS * np.float32(scale) + np.float32(offset)).mean((1, 2))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_weights_are_all_files_of_the_folder(preset: Any, tmp_path: Path) -> None:
    shutil.copytree(preset("vit").folder, tmp_path / "a")
    first = resolve(f"hub:{tmp_path / 'a'}", preprocess="unit", home=HOME)
    (tmp_path / "a").rename(tmp_path / "b")
    assert resolve(f"hub:{tmp_path / 'b'}", preprocess="unit", home=HOME).weights == first.weights
    with pytest.raises(WeightsError):
        load(first, batch_size=3)
    weights = bytearray((tmp_path / "b" / "model.weights.h5").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "b" / "model.weights.h5").write_bytes(weights)
    assert resolve(f"hub:{tmp_path / 'b'}", preprocess="unit", home=HOME).weights != first.weights


@pytest.fixture(scope="module")
def worked(preset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a preset and a home: features, a head on them, and the upper block fine-tuned."""
    folder = tmp_path_factory.mktemp("worked")
    shutil.copytree(preset("vit").folder, folder / "vit")
    hub().layers.ImageConverter(image_size=(SIDE, SIDE), scale=1 / 127.5, offset=-1.0).save_to_preset(
        str(folder / "vit")
    )
    for line in (
        f"extract --backbone hub:{folder / 'vit'} --split 0.6,0,0.4 {PHOTOS}",
        "fit logreg --c 0.1",
        "finetune --unfreeze last:1blocks --epochs 1 --lr 0.001",
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--home", str(folder / "home"), *shlex.split(line), "--quiet"])
        assert stop.value.code == 0, line
    return folder


@pytest.mark.parametrize("run", ["latest:2", "latest"])
def test_a_head_and_a_fine_tuned_network_are_exported_as_they_predict(
    worked: Path, run: str, tmp_path: Path
) -> None:
    home = Home(worked / "home")
    found = find_run(home, run)
    pixels = np.resize(PIXELS, (32, SIDE, SIDE, 3))
    expected = load_predictor(found, home)(pixels)
    assert expected.std() > 0
    keras_file, onnx_file = (export(found, home, kind, tmp_path / f"m.{kind}") for kind in ("keras", "onnx"))
    assert keras_file.facts["needs"] == ["keras", "keras-hub"]
    assert "keras-hub" in keras_file.card.read_text()
    model = keras.models.load_model(keras_file.model, safe_mode=True)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, atol=1e-4)
    session = onnxruntime.InferenceSession(onnx_file.model, providers=["CPUExecutionProvider"])
    (ours,) = session.run(["probabilities"], {"pixels": pixels.astype(np.float32)})
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_fine_tuned_runs_stand_on_their_own(worked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(worked / "home", capsys)
    run = find_run(Home(worked / "home"), "latest")
    tuned = run.result
    assert tuned["plan"]["crossing"] == {"transformer_block_1": [17, 16]}
    assert tuned["plan"]["prefix_cache"]
    assert tuned["plan"]["trunk"] == "cls"
    assert "logreg" in tuned["comparison"]["name_b"]
    again = ("finetune", "--unfreeze", "last:1blocks", "--epochs", 1, "--lr", 0.001, "--resume")
    assert shell.json(*again)["run"] == run.name
    shell("compare", "latest", "latest:2")
    picture = next(PHOTOS.rglob("*.jpg"))
    (worked / "vit").rename(worked / "elsewhere")
    assert shell.json("predict", "latest", picture)
    assert shell.json("finetune", "--backbone", "latest", "--unfreeze", "last:1", "--dry-run", PHOTOS)
    shell("finetune", "--backbone", "latest", "--unfreeze", "last:1blocks", "--dry-run", PHOTOS, code=2)
    assert "no blocks of this network are known by name" in shell.error
    shell("predict", "latest:2", picture, code=1)
    assert "hub:vit" in shell.error
    shell("finetune", "--unfreeze", "last:1blocks", code=1)
    assert "hub:vit" in shell.error
    (worked / "elsewhere").rename(worked / "vit")


def text_preset(folder: Path) -> None:
    hub().models.BertBackbone(
        vocabulary_size=8, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    ).save_to_preset(str(folder))


def no_json(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("[1]")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text_preset, "no backbone for pictures"),
        (no_json, "cannot be read as a part of a preset"),
        (lambda folder: None, "there is no folder"),
    ],
)
def test_what_is_no_preset_of_pictures_is_one_message(
    tmp_path: Path, make: Callable[[Path], None], says: str
) -> None:
    make(tmp_path / "p")
    with pytest.raises(ProbeError, match=says):
        features(tmp_path / "p")


def test_a_preset_without_its_weights_is_one_message(preset: Any, tmp_path: Path) -> None:
    shutil.copytree(preset("vit").folder, tmp_path / "p")
    (tmp_path / "p" / "model.weights.h5").unlink()
    with pytest.raises(WeightsError, match="cannot be loaded"):
        features(tmp_path / "p")


def test_an_unknown_name_is_no_download() -> None:
    with pytest.raises(WeightsError, match="knows no preset dinov9"):
        resolve("hub:dinov9", home=HOME)
