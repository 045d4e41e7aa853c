"""Which of the outputs that a survey asks for a backbone has; no network is built where names can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probe.backbones import find_row, list_outputs
from probe.backbones.backbone import ONNX_FILE, Backbone
from probe.backbones.outputs import AVG_POOL, MAP, choose_outputs
from probe.config import Home
from probe.errors import UnknownNameError, unknown_name


@dataclass(frozen=True)
class Offer:
    """What a backbone has of the outputs asked for.

    Attributes
    ----------
    backbone : as `probe.backbones.resolve` takes it.
    taken : the outputs that are surveyed; its default where it has none of those asked for, or where none
        were; empty where it then has no default either.
    lacking : the outputs asked for that it does not have.
    instead : whether its default stands for them.
    """

    backbone: str
    taken: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    instead: bool = False

    @property
    def note(self) -> str:
        """What the user should know of it; empty where all is there."""
        if not self.lacking:
            return ""
        instead = f": its own {self.taken[0]} is taken" if self.instead else ""
        return f"{self.backbone} has no {', '.join(self.lacking)}{instead}"


def offers(
    backbones: Mapping[str, str | None], wanted: Sequence[str], size: int | None, home: Home
) -> list[Offer]:
    """What each backbone has of the `wanted` outputs.

    Parameters
    ----------
    backbones : name -> its own default output, None for that of its row.
    size : of the input, for a network that has to be built to know its layers; None takes its own.

    Raises
    ------
    UnknownNameError : an output that no backbone has; the message lists those there are.
    UsageError : an output is not spelled as one, or is asked for twice.
    """
    found = []
    named = {output for name in backbones for output in _named(find_row(name))}
    for name, default in backbones.items():
        row = find_row(name)
        lacking = [output for output in wanted if not _has(row, name, output, named, size, home)]
        taken = [output for output in wanted if output not in lacking]
        # As they are stored: a tensor of an ONNX file may be spelled in two ways.
        taken = list(choose_outputs(row, taken)) if taken else []
        own = [default or row.default_output] if default or row.default_output else []
        found.append(Offer(name, tuple(taken or own), tuple(lacking), bool(lacking and own and not taken)))
    for output in wanted:
        if all(output in offer.lacking for offer in found):
            names = [known for name in backbones for known in _listed(name, size, home)]
            raise unknown_name("output", output, dict.fromkeys(names))
    return found


def _has(row: Backbone, name: str, output: str, named: set[str], size: int | None, home: Home) -> bool:
    """Whether a backbone has an output; `named` are those that any row of the survey names."""
    try:
        choose_outputs(row, [output])
    except UnknownNameError:
        return False
    if row.kind == ONNX_FILE or not row.is_network:
        return True
    layer = output.removesuffix(MAP)
    if layer in _named(row) or (row.stages and layer in named):
        # What is a stage elsewhere is no layer of a network whose stages have names.
        return layer in _named(row)
    return layer in [known.name for known in list_outputs(name, size=size, home=home)]


def _named(row: Backbone) -> list[str]:
    """The outputs that a row names."""
    own = [row.default_output, *row.stages, *([AVG_POOL] if row.is_network else [])]
    return [name for name in dict.fromkeys(own) if name]


def _listed(name: str, size: int | None, home: Home) -> list[str]:
    """The outputs of a backbone to choose from: those that its row names, else all of them."""
    row = find_row(name)
    if row.stages:
        return _named(row)
    return [known.name for known in list_outputs(name, size=size, home=home)]
