"""OpenVINO, imported in one place by all rooms that compute with it."""

from __future__ import annotations

import sys
from typing import Any

TELEMETRY = "openvino_telemetry"


def load_openvino() -> Any:
    """The package, imported without the one that reports its use to its makers."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]  # an import of it fails, as openvino allows
    import openvino

    return openvino
