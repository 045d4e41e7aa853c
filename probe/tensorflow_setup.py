"""TensorFlow and Keras, imported once, quietly, and computing the same whatever the user's settings are.

Every room that computes networks imports them from here. Importing this module takes seconds, so only modules
that are themselves loaded lazily may do it. Keras is imported when it is first asked for: what runs a graph
that was built before does without.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from probe import signals
from probe.errors import UsageError
from probe.progress import shown_on

if TYPE_CHECKING:
    import keras

FLOAT, IMAGES, EPSILON, BACKEND = "float32", "channels_last", 1e-7, "tensorflow"
"""Keras's own defaults, which every published weights file and every recorded store rests on."""

_REWRITE = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_"
# What the bfloat16 pass must leave in float32. The mean, because pooled features are stored as float32. And
# depthwise convolutions: they move memory rather than multiply, and their trained kernels nearly sum to zero,
# so rounding them costs EfficientNet-Lite0 a cosine of 0.996 where the bound is 0.9995.
_FIXED = {
    "KERAS_BACKEND": BACKEND,
    "TF_ENABLE_ONEDNN_OPTS": "1",  # without it bfloat16 would be recorded and float32 computed
    "TF_CUDNN_DETERMINISTIC": "1",  # a resumed unit has to have the bits of an undisturbed one
    "NVIDIA_TF32_OVERRIDE": "0",  # fp32 means 24 bits of mantissa on a GPU as well
    _REWRITE + "INFERLIST_REMOVE": "Mean",
    _REWRITE + "ALLOWLIST_REMOVE": "DepthwiseConv2dNative",
}
_REMOVED = (
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_CONV2D_USE_FP16_ACCUMULATE",
    "TF_USE_DEEP_CONV2D",
    "TF_ENABLE_AUTO_MIXED_PRECISION",
    "TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE",
)
"""Settings that lower the arithmetic, or end trainings early, without a trace in any result."""
_COMPILED_UNASKED = ("tf_xla_auto_jit", "tf_xla_cpu_global_jit")
"""Flags under which XLA takes over graphs that were not meant for it, with other rounding."""


_LEFT_OUT = ("IPython", "matplotlib", "pandas", "scipy", "sklearn")
"""What TensorFlow and Keras import wherever it is installed, for what is not used here: wrappers, galleries,
frames, sparse matrices."""


def _settle_environment() -> None:
    """Give every variable that decides a number its one value; some are read once, when TensorFlow starts.

    UsageError where a setting has been taken up already: TensorFlow was imported by somebody else before.
    """
    unwanted = [name for name in os.environ if name.startswith(_REWRITE) and name not in _FIXED]
    wrong = [name for name in (*_REMOVED, *unwanted) if name in os.environ]
    wrong += [name for name, value in _FIXED.items() if os.environ.get(name, value) != value]
    flags = os.environ.get("TF_XLA_FLAGS", "").split()
    kept = [flag for flag in flags if not flag.lstrip("-").startswith(_COMPILED_UNASKED)]
    if kept != flags:
        wrong.append("TF_XLA_FLAGS")
    if wrong and "tensorflow" in sys.modules:
        raise _taken_up(wrong[0])
    for name in wrong:
        del os.environ[name]
    if kept:
        os.environ["TF_XLA_FLAGS"] = " ".join(kept)
    os.environ.update(_FIXED)
    # Otherwise the first process takes all memory of a GPU, and the next one finds none.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def _taken_up(name: str) -> UsageError:
    return UsageError(
        f"the environment variable {name} changes what networks compute",
        expected="it unset, or probe imported before TensorFlow",
        found="TensorFlow was imported with it",
        hint=f"unset {name} and start again",
    )


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep what TensorFlow's C++ side says while it is imported off the screen, unless the import fails.

    It announces oneDNN and missing GPUs before it reads any setting that would silence it, so the file
    descriptor itself has to point elsewhere for that moment, which can be ten seconds: the lines of a
    `Progress` go past it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            with shown_on(saved):
                yield
        except Exception:
            said.seek(0)
            os.write(saved, said.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Let the import of modules fail that are not there yet and that an import inside can do without.

    What is left out can be imported afterwards.
    """
    left_out = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(left_out))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in left_out:
            del sys.modules[name]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import without looking for garbage, of which there is none: a quarter of the start.

    In a process of our own no later collection looks at what was imported either, hundreds of thousands of
    objects that stay until the end.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if signals.is_ours():
            gc.freeze()
        if collecting:
            gc.enable()


def _left_out() -> tuple[str, ...]:
    """Who imports this package into a process of theirs gets all; a process of our own starts in a third less
    time."""
    return _LEFT_OUT if signals.is_ours() else ()


@cache
def _keras() -> Any:
    try:
        with _quiet_start(), _without(*_left_out()), _uncollected():
            import keras
    except ValueError as error:
        # The only settings that Keras refuses by themselves are those of its own file.
        raise UsageError(
            "Keras does not accept the settings in its keras.json",
            found=str(error).partition("\n")[0],
            hint="correct or remove keras.json in ~/.keras, or in KERAS_HOME where that is set",
        ) from error
    _pin(keras)
    return keras


_settle_environment()
try:
    # TensorFlow ends by importing Keras for the sake of its SavedModels, and does without where it cannot.
    with _quiet_start(), _without("keras.src.optimizers", *_left_out()), _uncollected():
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
        from tensorflow.python.framework.func_graph import func_graph_from_py_func
except AssertionError:
    _keras()  # TensorFlow reads the settings of Keras as well; only Keras says what is wrong with them
    raise


def __getattr__(name: str) -> Any:
    if name == "keras":
        return _keras()
    raise AttributeError(f"module {__name__} has no attribute {name}")


def pin() -> None:
    """Put Keras's global settings to the values that all of this package computes with.

    Called wherever a network is built, loaded or trained: the user's ``keras.json``, or a notebook's own
    calls of `keras.config`, would give other features under the same key. UsageError for another backend,
    which cannot be changed any more.
    """
    _pin(_keras())


def _pin(keras: Any) -> None:
    if keras.config.backend() != BACKEND:
        raise UsageError(
            "Keras was imported with another backend before probe",
            expected=BACKEND,
            found=keras.config.backend(),
            hint="import probe before keras, or unset KERAS_BACKEND",
        )
    keras.config.set_floatx(FLOAT)
    keras.config.set_image_data_format(IMAGES)
    keras.config.set_epsilon(EPSILON)
    keras.config.set_dtype_policy(FLOAT)
    for limit in ("set_max_epochs", "set_max_steps_per_epoch"):
        if hasattr(keras.config, limit):  # older versions of Keras know no limits
            getattr(keras.config, limit)(None)


tf.config.experimental.enable_tensor_float_32_execution(False)
# "Tracing is expensive": true, and said of every model after the fifth that one process trains or loads.
tf.get_logger().setLevel("ERROR")

__all__ = ["convert_variables_to_constants_v2", "func_graph_from_py_func", "keras", "pin", "tf"]
