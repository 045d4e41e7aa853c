"""A small real home with runs of odd names, for the tests of pages and figures."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import probe
from probe.runs import Run
from probe.store import Store

EVIL = "<script>alert(1)</script>"
CLASSES = (EVIL, 'a $x^2$ & "b"', "plain")


@dataclass(frozen=True)
class Reported:
    """A workspace, its store of `CLASSES`, and two runs on it; the first has a path and a few-shot curve."""

    space: probe.Workspace
    pictures: Path
    store: Store
    first: Run
    second: Run


def make_reported(folder: Path) -> Reported:
    """Pictures of three classes that are told apart by shade, with some noise; one of them cannot be read."""
    pictures, noise = folder / "pictures", np.random.default_rng(0)
    pictures.mkdir(parents=True)
    lines = [["path", "label"]]
    for number in range(120):
        label = number % 3
        shade = 60 + 45 * label + noise.normal(0, 25)
        pixels = np.clip(noise.normal(shade, 30, (12, 16, 3)), 0, 255).astype(np.uint8)
        lines.append([f"<img src=x onerror=alert(2)>{number:03}.png", CLASSES[label]])
        Image.fromarray(pixels).save(pictures / lines[-1][0])
    lines.append(["broken.png", "plain"])
    (pictures / "broken.png").write_bytes(b"\x89PNG no picture")
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    space = probe.Workspace(folder / "home", quiet=True)
    store = space.extract(pictures, backbone="pixels", size=4, labels=folder / "labels.csv")
    first = space.fit("logreg", store, c=[0.001, 0.01, 0.1], shots=["1", "5", "all"], repeats=2)
    second = space.fit("centroid", store)
    return Reported(space, pictures, store, first, second)
