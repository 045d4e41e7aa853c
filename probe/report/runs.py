"""How a run is told to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probe.report.findings import TAB, columns, finding_lines
from probe.runs import Record, Run, Scores
from probe.runs.record import CurvePoint, FitFacts, SeedSpread, TrainFacts
from probe.text import brief, count_of, wrapped

PARTS = ("val", "cv", "first_fold")
"""Where a value of C is scored."""


def result_lines(run: Run) -> list[str]:
    """The result of a run, a fact a line."""
    record, facts = run.record, run.record.facts
    chosen = ", ".join(f"{name} {brief(value)}" for name, value in (record.chosen or {}).items())
    lines = [
        f"run       {run.name}",
        f"in        {run.path.parent}",
        *([f"name      {run.naming.name}"] if run.naming.name else []),
        *(_wrapped(f"said      {run.naming.note}") if run.naming.note else []),
        f"store     {record.store}" if record.store else f"data set  {record.dataset}",
        f"head      {record.head}" + (f" ({chosen})" if chosen else ""),
        "images    " + ", ".join(f"{name} {count:,}" for name, count in record.parts.items()),
    ]
    scored = _score_lines("test", record.test, len(record.classes)) + _val_lines(record)
    lines += [part for line in scored for part in _wrapped(line)]
    lines += finding_lines(run)
    if isinstance(facts, FitFacts):
        lines += _gap_lines(facts)
        lines += _seed_lines(facts.seeds) + _curve_lines(facts.curve or ()) + _data_lines(facts)
    if isinstance(facts, TrainFacts):
        lines += _training_lines(facts)
    lines += [part for line in record.notes for part in _wrapped(f"note      {line}")]
    lines.append(f"time      {record.seconds} s")
    return lines


def _wrapped(line: str) -> list[str]:
    """A line in parts that fit the terminal."""
    return wrapped(line, columns(), indent=TAB)


def _gap_lines(facts: FitFacts) -> list[str]:
    """The path over C with the certificate of every value, and that of the head which is kept."""
    rows = [row for row in facts.path or () if "gap" in row]
    lines = []
    if len(rows) > 1:
        lines.append("path      C          accuracy  log-loss  above the minimum by at most")
        for row in sorted(rows, key=lambda row: row["c"]):
            accuracy, loss = (_first_of(row, figure) for figure in ("accuracy", "log_loss"))
            lines.append(f"          {row['c']:<9.2e}  {accuracy:>8.4f}  {loss:>8.4f}  {_gap(row['gap'])}")
    if facts.fitted is not None:
        lines.append(
            f"fit       at C {facts.fitted['c']:.4g} above the minimum by at most {_gap(facts.fitted['gap'])}"
        )
    return lines


def _first_of(row: Mapping[str, Any], figure: str) -> float:
    """The figure on validation, over all folds, or in the one fold that has seen this value of C."""
    return next(float(row[f"{part}_{figure}"]) for part in PARTS if f"{part}_{figure}" in row)


def _gap(gap: float) -> str:
    return f"{gap:.1e} of the objective"


def _data_lines(facts: FitFacts) -> list[str]:
    """Copies across splits, pictures with two labels and parted groups, where there are any."""
    lines = [f"copies    {copies_text(facts.duplicates)}"] if facts.duplicates else []
    if facts.label_conflicts:
        lines.append(f"labels    {conflicts_text(facts.label_conflicts)}")
    if facts.parted_groups:
        lines.append(f"groups    parted: {parted_text(facts.parted_groups)}")
    return lines


def _training_lines(facts: TrainFacts) -> list[str]:
    """What belongs to a training from scratch: its network, its epochs, and the study's figure."""
    epochs = facts.epochs
    stopped = f", {epochs.stopped}" if epochs.stopped else ""
    lines = [
        f"network   {facts.params:,} weights, precision {facts.precision}, seed {facts.seed}",
        f"epochs    scored {epochs.scored} of {epochs.run}: {epochs.rule}{stopped}",
    ]
    other = "" if facts.published_on_this_data else "; measured on other data or scaled down"
    for published in facts.published:
        label = f" ({published.label})" if published.label else ""
        lines.append(f"published {published.accuracy:.4f} on {published.part}{label}{other}")
    return lines


def copies_text(duplicates: Mapping[str, int]) -> str:
    """Exact copies of pictures across splits, as `probe.store.Index.duplicates` counts them."""
    pairs = (f"{count:,} in both {pair.replace('_', ' and ')}" for pair, count in duplicates.items())
    return "the same picture " + ", ".join(pairs)


def conflicts_text(pictures: int) -> str:
    """Of how many pictures `probe.store.Index.label_conflicts` knows."""
    return f"the same picture under two labels: {count_of(pictures, 'picture')}"


def parted_text(parted: Mapping[str, int]) -> str:
    """Groups in several parts, as `probe.store.Index.parted_groups` counts them."""
    return ", ".join(f"{count:,} in both {pair.replace('_', ' and ')}" for pair, count in parted.items())


def _score_lines(part: str, scores: Scores | None, classes: int = 0) -> list[str]:
    if scores is None:
        return [f"{part:<9} no labelled images in this part"]
    auc = "" if scores.auc is None else f", AUC {scores.auc:.4f}"
    # Of five classes or fewer every answer is among the first five.
    top5 = "" if 0 < classes <= 5 else f"top-5 {scores.top5:.4f}, "
    low, high = scores.interval
    # Runs of before there were groups do not say.
    groups = f" in {count_of(scores.groups, 'group')}" if scores.groups else ""
    return [
        (
            f"{part:<9} accuracy {scores.accuracy:.4f}  95 % interval {low:.4f} – {high:.4f}"
            f"  ({count_of(scores.n, 'image')}{groups})"
        ),
        (f"          {top5}mean per class {scores.balanced_accuracy:.4f}, macro-F1 {scores.macro_f1:.4f}"),
        f"          log-loss {scores.log_loss:.4f}, calibration error {scores.ece:.4f}{auc}",
    ]


def _val_lines(record: Record) -> list[str]:
    """Accuracy on validation, and what was chosen on the same images."""
    lines = _score_lines("val", record.val)[:1]
    if used := record.val_used_for:
        lines.append(f"          not a test figure: these images were used to {used}")
    return lines


def _seed_lines(seeds: SeedSpread | None) -> list[str]:
    if seeds is None:
        return []
    count = len(seeds.accuracies)
    return [f"seeds     mean {seeds.mean:.4f}, run-to-run spread {seeds.spread:.4f} over {count} seeds"]


def _curve_lines(curve: Sequence[CurvePoint]) -> list[str]:
    lines = []
    for point in curve:
        interval = "" if point.low is None else f"  ({point.low:.4f} – {point.high:.4f} over draws)"
        mean = "–     " if point.mean is None else f"{point.mean:.4f}"
        lines.append(f"curve     {point.size:<14} {point.rows:>7,} rows  {mean}{interval}".rstrip())
        if point.problem:
            lines.append(f"          {point.problem}")
    return lines
