"""OpenVINO, imported in one place by all rooms that compute with it."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

TELEMETRY = "openvino_telemetry"


def is_installed() -> bool:
    return "openvino" in sys.modules or importlib.util.find_spec("openvino") is not None


def load_openvino() -> Any:
    """The package, imported without the one that reports its use to its makers."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]  # an import of it fails, as openvino allows
    import openvino

    return openvino
