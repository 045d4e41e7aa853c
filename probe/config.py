"""Where things are kept, and what ``probe.toml`` says.

Precedence, highest first: flag, environment (``PROBE_*``), ``probe.toml`` in the working directory,
default; `probe.commands.settings` checks and applies it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.errors import LinkError, UsageError
from probe.whole import read_text

CONFIG_FILE = "probe.toml"
HOME_VARIABLE, DEFAULT_HOME = "PROBE_HOME", "data"
HOME_MARKER = ".probe-home"
HOME_PARTS = ("cache", "datasets", "runs", "stores", "sweeps", "weights")
"""The folders of a home, as `Home` names them."""
SIGNS = {
    "cache": ("index/*.npz",),
    "datasets": ("from/*",),
    "runs": ("*/result.json",),
    "stores": ("*/MANIFEST.json", "*/data.zarr"),
    "sweeps": ("cells/*.json",),
}
"""What only a home has in these folders, for homes from before there was a marker."""


@dataclass(frozen=True)
class Home:
    """The folder that holds everything the tool keeps (``PROBE_HOME``, by default ``./data``).

    It may be a link; what it keeps is not opened through one: LinkError where one of the folders is a link.
    Data sets and weights, which were made by others, may be.
    """

    root: Path

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def stores(self) -> Path:
        return own_place(self.root, "stores")

    @property
    def runs(self) -> Path:
        return own_place(self.root, "runs")

    @property
    def sweeps(self) -> Path:
        """Tables and figures of sweeps, and in ``cells`` the result of every single training of them."""
        return own_place(self.root, "sweeps")

    @property
    def cache(self) -> Path:
        """May be deleted at any time: indices, decoded pixels, the state of unfinished trainings."""
        return own_place(self.root, "cache")

    def mark(self) -> None:
        """Leave the marker by which the folder is known as a home, before anything is written to it."""
        # Where that is not possible nothing else can be written either, and what writes it says so better.
        with suppress(OSError):
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / HOME_MARKER).open("x") as marker:
                marker.write("probe keeps its stores, runs and caches here\n")


def own_place(folder: Path, *names: str) -> Path:
    """A place below a folder that a home keeps; LinkError where one of the names on the way is a link."""
    path = folder
    for name in names:
        path = path / name
        if path.is_symlink():
            raise LinkError(
                f"{path} is a link",
                expected="what lies in a home itself; only a home as a whole may be a link",
                hint="put what it leads to in its place, or name the home that it lies in by --home",
            )
    return path


def default_home() -> Home:
    """The home that ``PROBE_HOME`` names, else `DEFAULT_HOME`."""
    return Home(Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME))


def home_parts(folder: Path, names: Collection[str]) -> list[str]:
    """Which of `names`, the entries of `folder`, belong to a home; none where the folder is no home."""
    parts = sorted(set(HOME_PARTS).intersection(names))
    known = HOME_MARKER in names or any(
        next((folder / part).glob(sign), None) for part in parts for sign in SIGNS.get(part, ())
    )
    return parts if known else []


def read_config(path: Path) -> dict[str, Any]:
    """The contents of a ``probe.toml``, or an empty dict when there is none.

    Tables are commands, keys are options with underscores: ``[extract]`` ``batch_size = 64``.
    """
    try:
        return tomllib.loads(read_text(path, follow=True))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not valid TOML", found=str(error), hint="correct or remove it"
        ) from error


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN. What hashes are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
