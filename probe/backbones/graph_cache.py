"""Graphs that were built before: ``PROBE_HOME/cache/graphs``, a file each, which may be deleted at any time.

A file is known by everything that decides what is in it, and believed only where its hash says that it is
what was written: a torn or damaged one is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from probe.backbones.backbone import BackboneSpec
from probe.config import Home, canonical_json, own_place
from probe.durable import replacing
from probe.versions import versions
from probe.whole import read_whole

FOLDER = "graphs"
SUFFIX = ".graph"
MOST_BYTES = 1 << 30
"""What all graphs may take together, bytes; those used longest ago go first."""
_MAKERS = ("probe", "tensorflow", "keras")


@dataclass(frozen=True)
class Frozen:
    """A graph without variables.

    Attributes
    ----------
    graph : a serialised ``GraphDef``.
    pixels : name of the tensor it takes.
    outputs : names of those it gives, in the order of the specification.
    """

    graph: bytes
    pixels: str
    outputs: tuple[str, ...]


def graph_key(spec: BackboneSpec, batch_size: int) -> str:
    """sha256 over all that decides a graph: specification, batch, versions of what builds it; 64 digits."""
    made = versions()
    makers = {name: made[name] for name in _MAKERS}
    record = {"backbone": {**spec.key_part(), "engine": spec.engine}, "batch": batch_size, "makers": makers}
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()


def read_graph(home: Home, key: str) -> Frozen | None:
    """The graph kept under `key`; None where there is none that can be trusted."""
    path = _path(home, key)
    try:
        digest, content = _parted(read_whole(path, cap=None))
        os.utime(path)
    except (OSError, ValueError):
        return None
    if digest != _digest(key, content):
        return None
    header, graph = _parted(content)
    names = json.loads(header)
    return Frozen(graph, names["pixels"], tuple(names["outputs"]))


def keep_graph(home: Home, key: str, frozen: Frozen) -> None:
    """Keep a graph for the next time; where nothing can be written, the next time builds it again."""
    path = _path(home, key)
    header = json.dumps({"pixels": frozen.pixels, "outputs": frozen.outputs}).encode()
    content = header + b"\n" + frozen.graph
    # On a full disk, too: the store, which is worth an error, says it itself.
    with suppress(OSError):
        home.mark()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as whole:
            whole.write_bytes(_digest(key, content) + b"\n" + content)
        _make_room(path.parent)


def _parted(content: bytes) -> tuple[bytes, bytes]:
    """The first line, and what comes after it."""
    line, _, rest = content.partition(b"\n")
    return line, rest


def _path(home: Home, key: str) -> Path:
    return own_place(home.cache, FOLDER) / f"{key[:32]}{SUFFIX}"


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).hexdigest().encode()


def _make_room(folder: Path) -> None:
    """Remove those used longest ago where all take more than they may."""
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)
    taken = 0
    for path in files:
        taken += path.stat().st_size
        if taken > MOST_BYTES:
            path.unlink(missing_ok=True)
