"""The card of an exported model: what it is, what it was measured on, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probe.backbones import BACKBONES
from probe.plain import one_line
from probe.runs import Run
from probe.runs.record import Scores

MARKS = "\\`*_[]<>#|!"
"""What Markdown and HTML would take for more than a letter."""
NOT_FOR = (
    "It names one of its classes for every picture, also for one that shows none of them.",
    "The figures hold for pictures like those of its test part, and for no others.",
    "Nobody has looked for groups of people or things that it treats worse, beyond its classes.",
)


def card_text(run: Run, facts: Mapping[str, Any], file: str) -> str:
    """Markdown; `facts` are those of the description beside the model, `file` is its name."""
    name = _plain(file)
    what = f"{name} says which of {len(facts['classes'])} classes a picture belongs to."
    sections = {
        "Use": _use(facts, name),
        "Measured": _measured(run),
        "Made of": _made_of(run),
        "What it is not for": [f"* {line}" for line in NOT_FOR],
    }
    parts = [f"# {name}", f"{what} It was exported from the run {_plain(run.name)}."]
    parts += ["\n".join([f"## {title}", "", *lines]) for title, lines in sections.items()]
    return "\n\n".join(parts) + "\n"


def _use(facts: Mapping[str, Any], name: str) -> list[str]:
    shape = " × ".join(str(side or "batch") for side in facts["input"]["shape"])
    return [
        f"* input: RGB pictures, {shape}, values from 0 to 255; preprocessing is part of the model",
        f"* decoding and size: {_plain(facts['input']['decoding'])}",
        f"* output: probabilities, batch × {len(facts['classes'])}, in the order of the classes",
        f"* classes: {', '.join(map(_plain, facts['classes']))}",
        f"* to load it: {', '.join(facts['needs'])}",
        f"* for programs: {name}.json",
    ]


def _measured(run: Run) -> list[str]:
    record = run.record
    parts = {"test": record.test, "validation": record.val}
    rows = [_score_line(part, scores) for part, scores in parts.items() if scores is not None]
    if not rows:
        return ["There were no labelled images to measure it on."]
    head = ["| part | images | accuracy | 95 % interval | mean per class |", "|---|---|---|---|---|"]
    return [*head, *rows, *(f"\n{_plain(note)}" for note in record.notes)]


def _score_line(part: str, scores: Scores) -> str:
    low, high = scores.interval
    used = f" (not a test figure: used to {_plain(scores.used_for)})" if scores.used_for else ""
    interval = f"{low:.4f} – {high:.4f}"
    figures = f"{scores.n:,} | {scores.accuracy:.4f} | {interval} | {scores.balanced_accuracy:.4f}"
    return f"| {part}{used} | {figures} |"


def _made_of(run: Run) -> list[str]:
    record = run.record
    parts = "".join(f", {part} {images:,}" for part, images in record.parts.items() if images)
    chosen = "".join(f", {name} {value}" for name, value in (record.chosen or {}).items())
    lines = [
        f"* data set: {_plain(record.dataset or 'not known')}{parts}",
        f"* head: {_plain(record.head)}{_plain(chosen)}",
    ]
    if record.backbone is not None:
        name, size = _plain(str(record.backbone["name"])), record.backbone.get("size")
        lines.append(f"* backbone: {name} at {size} pixels, {record.backbone.get('precision')}")
        lines.append(f"* its weights: {_plain(str(record.backbone.get('weights')))}")
    known = record.backbone_name or ""
    if known in BACKBONES and BACKBONES[known].licence:
        lines.append(f"* their licence: {BACKBONES[known].licence}; {BACKBONES[known].source}")
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    return [*lines, f"* made with: {_plain(versions)}"]


def _plain(text: str) -> str:
    """Text from outside as text: neither Markdown nor HTML, on one line."""
    return "".join(f"\\{letter}" if letter in MARKS else letter for letter in one_line(text))
