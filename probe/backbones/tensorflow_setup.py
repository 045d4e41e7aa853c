"""TensorFlow and Keras, imported once and quietly; everything in this room that computes imports them here.

Importing this module takes seconds, so only modules that are themselves loaded lazily may do it.
"""

from __future__ import annotations

import os

# TensorFlow's C++ side writes start-up notes ("failed call to cuInit" on every machine without a GPU) to
# stderr, over the progress bar. It reads the level once, when it is imported. What fails still raises.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What the bfloat16 pass must leave in float32. The mean, because pooled features are stored as float32. And
# depthwise convolutions: they move memory rather than multiply, and their trained kernels nearly sum to zero,
# so rounding them costs EfficientNet-Lite0 a cosine of 0.996 where the bound is 0.9995.
_REWRITE = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_"
os.environ.setdefault(_REWRITE + "INFERLIST_REMOVE", "Mean")
os.environ.setdefault(_REWRITE + "ALLOWLIST_REMOVE", "DepthwiseConv2dNative")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: E402

__all__ = ["convert_variables_to_constants_v2", "keras", "tf"]
