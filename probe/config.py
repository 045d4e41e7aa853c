"""Where things are kept, and what ``probe.toml`` says.

Precedence, highest first: flag, environment (``PROBE_*``), ``probe.toml`` in the working directory,
default; `probe.commands.settings` checks and applies it.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.errors import UsageError

CONFIG_FILE = "probe.toml"


@dataclass(frozen=True)
class Home:
    """The folder that holds everything the tool keeps (``PROBE_HOME``, by default ``./data``)."""

    root: Path

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def stores(self) -> Path:
        return self.root / "stores"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        """Tables and figures of sweeps, and in ``cells`` the result of every single training of them."""
        return self.root / "sweeps"

    @property
    def cache(self) -> Path:
        """May be deleted at any time: indices, decoded pixels, the state of unfinished trainings."""
        return self.root / "cache"


def read_config(path: Path) -> dict[str, Any]:
    """The contents of a ``probe.toml``, or an empty dict when there is none.

    Tables are commands, keys are options with underscores: ``[extract]`` ``batch_size = 64``.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not valid TOML", found=str(error), hint="correct or remove it"
        ) from error


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN. What hashes are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
