"""Write the ONNX files beside this one: small networks exported by PyTorch, and what it computes of them.

Run by hand, since PyTorch is too large to install for tests: ``pip install torch onnx onnxscript``, then
``python tests/pytorch/make_networks.py``. The files were written by PyTorch 2.14.1: ``vit.onnx`` by the
exporter that keeps weights in a file of their own, ``cnn.onnx`` by the one through TorchScript.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

FOLDER = Path(__file__).parent
SIDE, PATCH, WIDTH = 16, 4, 8


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.dense = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, tokens: Any) -> Any:
        normed = self.before(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens + self.dense(self.between(tokens))


class VisionTransformer(nn.Module):
    """Pixels (B, 3, S, S) -> tokens (B, 1 + patches, D), the class token first."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.first = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.places = nn.Parameter(torch.randn(1, 1 + (SIDE // PATCH) ** 2, WIDTH))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, pixels: Any) -> Any:
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(pixels), -1, -1), patches], 1) + self.places
        return self.norm(self.blocks(tokens))


class ConvolutionalNetwork(nn.Module):
    """Pixels (B, 3, S, S) -> a map (B, D, S / 4, S / 4), and logits (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, 2, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, 2, 1),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(WIDTH, 5)

    def forward(self, pixels: Any) -> Any:
        found = self.features(pixels)
        return found, self.classifier(found.mean((2, 3)))


def main() -> None:
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    vit, cnn = VisionTransformer().eval(), ConvolutionalNetwork().eval()
    torch.onnx.export(
        vit,
        (inputs,),
        FOLDER / "vit.onnx",
        input_names=["pixels"],
        output_names=["tokens"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1)}},
    )
    torch.onnx.export(
        cnn,
        (inputs,),
        FOLDER / "cnn.onnx",
        input_names=["pixels"],
        output_names=["map", "logits"],
        dynamic_axes={name: {0: "batch"} for name in ("pixels", "map", "logits")},
        dynamo=False,
    )
    for name in ("vit.onnx", "cnn.onnx"):
        _forget_where(FOLDER / name)
    with torch.no_grad():
        found = {"tokens": vit(inputs), "map": cnn(inputs)[0], "logits": cnn(inputs)[1]}
    np.savez(
        FOLDER / "computed.npz", pixels=pixels, **{name: values.numpy() for name, values in found.items()}
    )


def _forget_where(path: Path) -> None:
    """Take out of a file which lines of which program every operation comes from."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
