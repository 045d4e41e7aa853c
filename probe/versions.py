"""What numbers were computed with: recorded in every store and run, never part of a key."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from probe import __version__

PACKAGES = ("tensorflow", "keras", "numpy", "zarr", "Pillow", "scikit-learn", "scipy")
EXTRAS = ("openvino", "onnxruntime")
"""Packages that are named where they are installed."""


def versions() -> dict[str, str]:
    """Versions of probe, Python, the system and the packages that compute numbers; imports none of them."""
    found = {"probe": __version__, "python": platform.python_version(), "system": platform.platform()}
    for package in (*PACKAGES, *EXTRAS):
        installed = _installed(package)
        if installed or package in PACKAGES:
            found[package] = installed or "not installed"
    return found


@cache
def _installed(package: str) -> str | None:
    """Looked up once: a process goes on with what it has imported, whatever is installed meanwhile."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
