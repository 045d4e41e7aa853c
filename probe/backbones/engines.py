"""The table of engines: what can compute a backbone, and which of them does.

A new engine is a new row here and a file beside this one, ``engine_<name>.py``. It is named in the keys of
its stores (see `probe.backbones.backbone.UNNAMED_ENGINES`), so the features of two engines never mix. An
engine whose bits change becomes a row of its own, with a version behind its name and in front of the earlier
one, which stays for the stores that it began and for the runs on them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from probe.backbones.backbone import KERAS, KERAS_FILE, PIXELS, PIXELS_ENGINE, TENSORFLOW, Backbone
from probe.errors import UsageError
from probe.registry import Registry

AUTO = "auto"


@dataclass(frozen=True)
class Engine:
    """One row of the table of engines.

    Attributes
    ----------
    name : with the version from the second on, ``tensorflow-2``.
    load : ``module:function`` with ``(row, spec, batch_size, home) -> Extractor`` (lazy, so that the table
        imports no framework); in the cache of `home`, if there is one, it may keep what makes the next start
        quicker.
    serves : kind of row -> the precisions it computes such rows in. What a saved model does by its own layers
        is left to it, so its own precision is always served.
    needs : modules that have to be installed.
    bit_stable : whether a picture's features are the same bits at any batch size, in any place of the batch
        and in any process on one machine.
    separate_outputs : whether an output is the same bits whatever other outputs are computed beside it.
    """

    name: str
    load: str
    serves: Mapping[str, tuple[str, ...]]
    needs: tuple[str, ...]
    bit_stable: bool
    separate_outputs: bool = False

    def computes(self, row: Backbone, precision: str) -> bool:
        """Whether it can compute `row` in `precision`, were it installed."""
        served = self.serves.get(row.kind)
        return served is not None and precision in (*served, row.saved_precision)

    @property
    def family(self) -> str:
        """Its name without the version: what users ask for."""
        return self.name.partition("-")[0]

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules it needs that are not installed; one that has been imported is, whoever did it."""
        return tuple(
            name for name in self.needs if name not in sys.modules and importlib.util.find_spec(name) is None
        )


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
            name=TENSORFLOW,
            load="probe.backbones.engine_tensorflow:load",
            serves={KERAS: ("fp32", "bf16", "fp16"), KERAS_FILE: ("fp32", "bf16")},
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
    return _first_ready(row, precision, _wanted(wanted) or [ENGINES[wanted]], wanted)


def named_engine(row: Backbone, precision: str, name: str) -> Engine:
    """The engine that a store or a run names, for a row at a precision. Raises as `choose_engine`."""
    return _first_ready(row, precision, [ENGINES[name]], name)


def keep_engine(row: Backbone, precision: str, name: str) -> Engine:
    """The engine that a store names, or one for new work where that does not compute a row at a precision."""
    if ENGINES[name].computes(row, precision):
        return named_engine(row, precision, name)
    return choose_engine(row, precision)


def interchangeable(row: Backbone, precision: str, wanted: str) -> list[Engine]:
    """Every engine, installed or not, whose features would do where `wanted` is asked for, best first.

    What they compute differs by rounding, and stays apart in stores; of any of them, finished work is not
    repeated and unfinished work is continued.
    """
    return [engine for engine in _wanted(wanted) if engine.computes(row, precision)]


def _wanted(wanted: str) -> list[Engine]:
    return [engine for engine in ENGINES.values() if wanted in (AUTO, engine.family)]


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
            hint="pip install " + " ".join(able[0].missing),
        )
    return ready


def is_installed(name: str) -> bool:
    """Whether the engine called that can run here."""
    return not ENGINES[name].missing


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
