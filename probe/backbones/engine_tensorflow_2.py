"""The engine ``tensorflow-2``, for the stores and runs that it began.

It is ``tensorflow-3``, but for sums that several layers use or that are written ``a + b``: nothing is fused
with them, and one with an activation and something else behind it keeps TensorFlow from fusing anything.
"""

from __future__ import annotations

from probe.backbones.backbone import Backbone, BackboneSpec, Extractor
from probe.backbones.engine_tensorflow_3 import load_frozen
from probe.config import Home


def load(row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> Extractor:
    """See `probe.backbones.load`."""
    return load_frozen(row, spec, batch_size, home, "freeze_but_shared_sums")
