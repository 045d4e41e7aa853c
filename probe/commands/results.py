"""How a run is told to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probe.commands.findings import finding_lines
from probe.datasets.listing import count_of
from probe.runs import Run


def result_lines(run: Run) -> list[str]:
    """The result of a run, a fact a line."""
    result = run.result
    chosen = ", ".join(f"{name} {_short(value)}" for name, value in (result.get("chosen") or {}).items())
    parts = result.get("parts") or {}
    lines = [
        f"run       {run.path}",
        f"store     {result['store']}" if result.get("store") else f"data set  {result.get('dataset')}",
        f"head      {result.get('head')}" + (f" ({chosen})" if chosen else ""),
        "images    " + ", ".join(f"{name} {count:,}" for name, count in parts.items()),
    ]
    lines += _score_lines("test", result.get("test"), len(result.get("classes") or ())) + _val_lines(result)
    lines += finding_lines(run)
    lines += _seed_lines(result.get("seeds")) + _curve_lines(result.get("curve"))
    lines += _training_lines(result)
    if copies := result.get("duplicates"):
        lines.append(f"copies    {copies_text(copies)}")
    if conflicts := result.get("label_conflicts"):
        lines.append(f"labels    {conflicts_text(conflicts)}")
    if parted := result.get("parted_groups"):
        lines.append(f"groups    parted: {parted_text(parted)}")
    lines += [f"note      {line}" for line in result.get("notes", [])]
    lines.append(f"time      {result.get('seconds')} s")
    return lines


def _training_lines(result: Mapping[str, Any]) -> list[str]:
    """What belongs to a training from scratch: its network, its epochs, and the study's figure."""
    epochs = result.get("epochs")
    if not isinstance(epochs, Mapping):
        return []
    stopped = f", {epochs['stopped']}" if epochs["stopped"] else ""
    lines = [
        f"network   {result['params']:,} weights, precision {result['precision']}, seed {result['seed']}",
        f"epochs    scored {epochs['scored']} of {epochs['run']}: {epochs['rule']}{stopped}",
    ]
    other = "" if result["published_on_this_data"] else "; measured on other data or scaled down"
    for published in result["published"]:
        label = f" ({published['label']})" if published["label"] else ""
        lines.append(f"published {published['accuracy']:.4f} on {published['part']}{label}{other}")
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


def _score_lines(part: str, scores: Mapping[str, Any] | None, classes: int = 0) -> list[str]:
    if scores is None:
        return [f"{part:<9} no labelled images in this part"]
    auc = "" if scores["auc"] is None else f", AUC {scores['auc']:.4f}"
    # Of five classes or fewer every answer is among the first five.
    top5 = "" if 0 < classes <= 5 else f"top-5 {scores['top5']:.4f}, "
    return [
        (
            f"{part:<9} accuracy {scores['accuracy']:.4f}  95 % interval"
            f" {scores['accuracy_low']:.4f} – {scores['accuracy_high']:.4f}"
            f"  ({count_of(scores['n'], 'image')}{_groups_text(scores)})"
        ),
        (
            f"          {top5}mean per class {scores['balanced_accuracy']:.4f},"
            f" macro-F1 {scores['macro_f1']:.4f}"
        ),
        f"          log-loss {scores['log_loss']:.4f}, calibration error {scores['ece']:.4f}{auc}",
    ]


def _val_lines(result: Mapping[str, Any]) -> list[str]:
    """Accuracy on validation, and what was chosen on the same images."""
    val = result.get("val")
    lines = _score_lines("val", val)[:1]
    if val and (used := _val_used_for(result)):
        lines.append(f"          not a test figure: these images were used to {used}")
    return lines


def _val_used_for(result: Mapping[str, Any]) -> str:
    """What the run records, or of a network what its rule for the epoch says."""
    recorded = result["val"].get("used_for")
    if recorded is not None:
        return str(recorded)
    epochs, options = result.get("epochs"), result.get("options") or {}
    by_validation = "val_" in epochs["rule"] if isinstance(epochs, Mapping) else options.get("keep") != "last"
    return "choose the epoch" if "history" in result and by_validation else ""


def _groups_text(scores: Mapping[str, Any]) -> str:
    """`` in 150 groups`` where the interval is by group; runs of before there were any do not say."""
    groups = scores.get("groups")
    return f" in {count_of(groups, 'group')}" if groups else ""


def _seed_lines(seeds: Mapping[str, Any] | None) -> list[str]:
    if seeds is None:
        return []
    count = len(seeds["accuracies"])
    return [f"seeds     mean {seeds['mean']:.4f}, run-to-run spread {seeds['spread']:.4f} over {count} seeds"]


def _curve_lines(curve: list[Mapping[str, Any]] | None) -> list[str]:
    lines = []
    for point in curve or []:
        interval = "" if point["low"] is None else f"  ({point['low']:.4f} – {point['high']:.4f} over draws)"
        mean = "–     " if point["mean"] is None else f"{point['mean']:.4f}"
        lines.append(f"curve     {point['size']:<14} {point['rows']:>7,} rows  {mean}{interval}".rstrip())
        if problem := point.get("problem"):
            lines.append(f"          {problem}")
    return lines


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
