"""The table of engines: what can compute a backbone, and which of them does.

A new engine is a new row here and a file beside this one, ``engine_<name>.py``. It is named in the keys of
its stores (see `probe.backbones.backbone.UNNAMED_ENGINES`), so the features of two engines never mix. An
engine whose bits change becomes a row of its own, with a version behind its name and in front of the earlier
one, which stays for the stores that it began and for the runs on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.backbones.backbone import (
    HUB_PRESET,
    KERAS,
    KERAS_FILE,
    ONNX_FILE,
    ONNXRUNTIME,
    OPENVINO,
    PIXELS,
    PIXELS_ENGINE,
    TENSORFLOW,
    Backbone,
)
from probe.errors import UsageError
from probe.machine import has_module, visible_gpus
from probe.registry import Registry

AUTO = "auto"


@dataclass(frozen=True)
class Engine:
    """One row of the table of engines.

    Attributes
    ----------
    name : with the version from the second on, ``tensorflow-3``.
    load : ``module:function`` with ``(row, spec, batch_size, home) -> Extractor`` (lazy, so that the table
        imports no framework); in the cache of `home`, if there is one, it may keep what makes the next start
        quicker.
    serves : kind of row -> the precisions it computes such rows in. What a saved model does by its own layers
        is left to it, so its own precision is always served.
    needs : modules that have to be installed.
    bit_stable : whether a picture's features are the same bits at any batch size, in any place of the batch
        and in any process on one machine.
    separate_outputs : whether an output is the same bits whatever other outputs are computed beside it.
    automatic : precision -> the rows that ``auto`` takes it for: those where it was measured to be faster
        than the engines below it, and to keep a cosine of 0.9995 to the features of float32. None for all.
    as_saved : whether it computes the layers of a saved model in the half precision they were saved in.
    uses_gpu : whether it computes on a GPU where there is one; ``auto`` takes another there if not.
    extra : the extra of this package that installs what it needs; empty where that is always installed.
    """

    name: str
    load: str
    serves: Mapping[str, tuple[str, ...]]
    needs: tuple[str, ...]
    bit_stable: bool
    separate_outputs: bool = False
    automatic: Mapping[str, tuple[str, ...]] | None = None
    as_saved: bool = True
    uses_gpu: bool = True
    extra: str = ""

    def computes(self, row: Backbone, precision: str) -> bool:
        """Whether it can compute `row` in `precision`, were it installed."""
        served = self.serves.get(row.kind)
        if served is None or not row.saved_precision:
            return precision in (served or ())
        return self.as_saved and precision == row.saved_precision

    def suits(self, row: Backbone, precision: str) -> bool:
        """Whether ``auto`` may take it for `row` in `precision`, were it installed."""
        automatic = self.automatic is None or row.name in self.automatic.get(precision, ())
        return automatic and self.computes(row, precision)

    @property
    def family(self) -> str:
        """Its name without the version: what users ask for."""
        return self.name.partition("-")[0]

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules it needs that are not installed."""
        return tuple(name for name in self.needs if not has_module(name))

    @property
    def install_hint(self) -> str:
        """How what is missing is installed."""
        return "pip install " + (f"'probe[{self.extra}]'" if self.extra else " ".join(self.missing))


ENGINES: Registry[Engine] = Registry(
    "engine",
    [
        Engine(
            name=PIXELS_ENGINE,
            load="probe.backbones.engine_pixels:load",
            serves={PIXELS: ("fp32",)},
            needs=(),
            bit_stable=True,
            separate_outputs=True,
        ),
        Engine(
            name=OPENVINO,
            load="probe.backbones.engine_openvino:load",
            serves={KERAS: ("fp32", "bf16"), KERAS_FILE: ("fp32", "bf16"), ONNX_FILE: ("fp32", "bf16")},
            needs=("openvino",),
            bit_stable=True,
            # EfficientNet-Lite0 in bfloat16 has a cosine of 0.9992 on photographs, by either engine.
            automatic={
                "fp32": ("resnet50", "vgg16", "nasnetmobile", "efficientnet-lite0"),
                "bf16": ("resnet50", "vgg16", "nasnetmobile"),
            },
            as_saved=False,
            uses_gpu=False,
            extra="openvino",
        ),
        Engine(
            name=ONNXRUNTIME,
            load="probe.backbones.engine_onnxruntime:load",
            serves={ONNX_FILE: ("fp32",)},
            needs=("onnx", "onnxruntime"),
            bit_stable=True,
            extra="onnx",
        ),
        *(
            Engine(
                name=f"tensorflow-{version}",
                load=f"probe.backbones.engine_tensorflow_{version}:load",
                serves={KERAS: ("fp32", "bf16"), KERAS_FILE: ("fp32", "bf16")},
                needs=("tensorflow", "keras"),
                bit_stable=True,
                uses_gpu=False,
            )
            for version in (3, 2)
        ),
        Engine(
            name=TENSORFLOW,
            load="probe.backbones.engine_tensorflow:load",
            serves={
                KERAS: ("fp32", "bf16", "fp16"),
                KERAS_FILE: ("fp32", "bf16"),
                HUB_PRESET: ("fp32", "bf16"),
            },
            needs=("tensorflow", "keras"),
            bit_stable=True,
        ),
    ],
)


def choose_engine(row: Backbone, precision: str, wanted: str = AUTO) -> Engine:
    """The engine for new work on a row at a precision: the first wanted of the table that is installed.

    `wanted` is ``auto``, an engine without its version, or a row's name where that has one.

    Raises
    ------
    UnknownNameError : no engine is called that.
    UsageError : it cannot compute this row in this precision, or what it needs is not installed.
    """
    candidates = _wanted(row, precision, wanted)
    if wanted != AUTO and not candidates:
        candidates = [ENGINES[wanted]]
    if not all(engine.uses_gpu for engine in candidates) and visible_gpus():
        candidates = [engine for engine in candidates if engine.uses_gpu] or candidates
    return _first_ready(row, precision, candidates, wanted)


def named_engine(row: Backbone, precision: str, name: str) -> Engine:
    """The engine that a store or a run names, for a row at a precision. Raises as `choose_engine`."""
    return _first_ready(row, precision, [ENGINES[name]], name)


def keep_engine(row: Backbone, precision: str, name: str) -> Engine:
    """The engine that a store names, or one for new work where that cannot compute this here."""
    if ENGINES[name].computes(row, precision) and is_installed(name):
        return named_engine(row, precision, name)
    return choose_engine(row, precision)


def interchangeable(row: Backbone, precision: str, wanted: str) -> list[Engine]:
    """Every engine, installed or not, whose features would do where `wanted` is asked for, best first.

    What they compute differs by rounding, and stays apart in stores; of any of them, finished work is not
    repeated and unfinished work is continued.
    """
    return [engine for engine in _wanted(row, precision, wanted) if engine.computes(row, precision)]


def _wanted(row: Backbone, precision: str, wanted: str) -> list[Engine]:
    if wanted == AUTO:
        return [engine for engine in ENGINES.values() if engine.suits(row, precision)]
    return [engine for engine in ENGINES.values() if wanted == engine.family]


def _first_ready(row: Backbone, precision: str, candidates: list[Engine], wanted: str) -> Engine:
    able = [engine for engine in candidates if engine.computes(row, precision)]
    if not able:
        what = f"{row.name} in {precision}"
        raise UsageError(
            f"no engine computes {what}"
            if wanted == AUTO
            else f"the engine {wanted} does not compute {what}",
            expected=_offers(row),
            hint="--precision auto",
        )
    ready = next((engine for engine in able if not engine.missing), None)
    if ready is None:
        raise UsageError(
            f"the engine {able[0].name} is not installed",
            expected=" and ".join(able[0].needs),
            found="without " + ", ".join(able[0].missing),
            hint=able[0].install_hint,
        )
    return ready


def is_installed(name: str) -> bool:
    """Whether the engine called that can run here."""
    return not ENGINES[name].missing


def is_automatic(row: Backbone, precision: str) -> bool:
    """Whether ``auto`` has an engine that is installed for a row in a precision."""
    return any(engine.suits(row, precision) and not engine.missing for engine in ENGINES.values())


def is_computed(row: Backbone, precision: str) -> bool:
    """Whether any engine that is installed computes a row in a precision."""
    return any(engine.computes(row, precision) and not engine.missing for engine in ENGINES.values())


def _offers(row: Backbone) -> str:
    offers = [
        f"{engine.name} in {', '.join(engine.serves[row.kind])}"
        for engine in ENGINES.values()
        if row.kind in engine.serves
    ]
    return "; ".join(offers)
