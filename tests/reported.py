"""A small real home with runs of odd names, for the tests of pages and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import probe
from probe.runs import Run
from probe.store import Store

EVIL = "<script>alert(1)<"
"""A folder's name cannot have the ``/`` of an end tag; the ids add it."""
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
    for label, name in enumerate(CLASSES):
        (pictures / name).mkdir(parents=True)
        for number in range(40):
            shade = 60 + 45 * label + noise.normal(0, 25)
            pixels = np.clip(noise.normal(shade, 30, (12, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(pictures / name / f"<img src=x onerror=alert(2)>{number}.png")
    (pictures / "plain" / "broken.png").write_bytes(b"\x89PNG no picture")
    space = probe.Workspace(folder / "home", quiet=True)
    store = space.extract(pictures, backbone="pixels", size=4)
    first = space.fit("logreg", store, c=[0.001, 0.01, 0.1], shots=["1", "5", "all"], repeats=2)
    second = space.fit("centroid", store)
    return Reported(space, pictures, store, first, second)
