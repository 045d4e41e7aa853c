"""TensorFlow and Keras, imported once and quietly: every room that computes networks imports them from here.

Importing this module takes seconds, so only modules that are themselves loaded lazily may do it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep what TensorFlow's C++ side says while it is imported off the screen, unless the import fails.

    It announces oneDNN and missing GPUs before it reads any setting that would silence it, so the file
    descriptor itself has to point elsewhere for that moment.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(saved, said.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


# What the bfloat16 pass must leave in float32. The mean, because pooled features are stored as float32. And
# depthwise convolutions: they move memory rather than multiply, and their trained kernels nearly sum to zero,
# so rounding them costs EfficientNet-Lite0 a cosine of 0.996 where the bound is 0.9995.
_REWRITE = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_"
os.environ.setdefault(_REWRITE + "INFERLIST_REMOVE", "Mean")
os.environ.setdefault(_REWRITE + "ALLOWLIST_REMOVE", "DepthwiseConv2dNative")

with _quiet_start():
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

# "Tracing is expensive": true, and said of every model after the fifth that one process trains or loads.
tf.get_logger().setLevel("ERROR")

__all__ = ["convert_variables_to_constants_v2", "keras", "tf"]
