"""What runs one experiment of ``probe reproduce`` in a process of its own, by ``python -m``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probe.children import answer_one
from probe.commands.transfer import TransferCommands
from probe.registry import load_object
from probe.studies.reproduce import verdicts_of
from probe.studies.rows import asked_for


def answer(question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdicts on the experiment that is asked for, as JSON.

    Besides what `probe.studies.rows.question` says there are ``program``, where the click program is found,
    ``precision`` as ``--precision`` takes it, and ``quiet``.
    """
    recipe, plan, home = asked_for(question)
    program, quiet = load_object(question["program"]), question["quiet"]
    transfer = TransferCommands(program, home, plan, question["precision"], quiet)
    return [verdict.to_json() for verdict in verdicts_of(recipe, plan, home, transfer, progress=not quiet)]


if __name__ == "__main__":
    answer_one(answer)
