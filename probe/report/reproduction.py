"""Published against measured, as Markdown and as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from probe.config import Home
from probe.curves import picture_of
from probe.errors import UsageError
from probe.runs import course_of, find_run
from probe.studies.baselines import COMPARISONS
from probe.studies.recipe import Ran
from probe.studies.reproduce import ABOVE, BELOW, INSIDE, NO_FIGURE, NOT_RUN, Verdict

HEADINGS = (
    "experiment",
    "published",
    "measured, 95 % interval",
    "verdict",
    "epochs, best val. accuracy there",
    "the same here",
    "remarks",
)
ORDER = (INSIDE, ABOVE, BELOW, NO_FIGURE, NOT_RUN)
READING = (
    "The interval is of the test images (Wilson; over folds, Student's t).",
    "It leaves out the chance of one training against another, which moved a study's figure by 2.7 points.",
    "A verdict in brackets is of other data or a scaled-down training: it says nothing about the study.",
)


@dataclass(frozen=True)
class Picture:
    """A figure of a page: what it shows, and its PNG."""

    title: str
    png: bytes


def write_report(verdicts: Sequence[Verdict], path: Path, title: str, home: Home) -> None:
    """Write ``.html`` (with the curves) or ``.md`` as the suffix says; UsageError for another one."""
    check_suffix(path)
    if path.suffix == ".html":
        text = html(verdicts, title, draw_comparisons(verdicts, home))
    else:
        text = markdown(verdicts, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def check_suffix(path: Path) -> None:
    """UsageError unless a report can be written to `path`."""
    if path.suffix not in (".html", ".md"):
        raise UsageError(f"a report cannot be written to {path}", expected="a name that ends in .html or .md")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


def counts(verdicts: Sequence[Verdict]) -> str:
    """``14 rows: 3 inside, 2 below, 9 not run``; every row is in one of them."""
    found = [(name, sum(verdict.verdict == name for verdict in verdicts)) for name in ORDER]
    return f"{len(verdicts)} rows: " + ", ".join(f"{count} {name}" for name, count in found if count)


def ran_text(ran: Ran | None) -> str:
    """``43, 0.6135 at 38``: epochs, the best validation accuracy, and the first epoch of it."""
    if ran is None:
        return "–"
    best = "" if ran.val_accuracy is None else f", {ran.val_accuracy:.4f}"
    return f"{ran.epochs}{best}" + ("" if ran.best_epoch is None else f" at {ran.best_epoch}")


def cells(verdict: Verdict) -> tuple[str, ...]:
    """A verdict as the text of `HEADINGS`."""
    name = verdict.experiment + (f" ({verdict.label})" if verdict.label else "")
    published = "–"
    if verdict.published is not None:
        high = "" if verdict.published_high is None else f" – {verdict.published_high:.4f}"
        published = f"{verdict.published:.4f}{high}" + (" val" if verdict.part == "validation" else "")
    measured = "–"
    if verdict.measured is not None and verdict.low is not None and verdict.high is not None:
        measured = f"{verdict.measured:.4f} ({verdict.low:.4f} – {verdict.high:.4f})"
    judged = verdict.verdict in (INSIDE, ABOVE, BELOW)
    said = f"({verdict.verdict})" if judged and not verdict.comparable else verdict.verdict
    return name, published, measured, said, ran_text(verdict.there), ran_text(verdict.here), verdict.why


def filled(verdicts: Sequence[Verdict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table, without columns that say nothing of any verdict."""
    rows = [cells(verdict) for verdict in verdicts]
    said = [any(row[place] not in ("", "–") for row in rows) for place in range(len(HEADINGS))]
    return _chosen(HEADINGS, said), [_chosen(row, said) for row in rows]


def _chosen(row: Sequence[str], said: Sequence[bool]) -> tuple[str, ...]:
    return tuple(text for text, has in zip(row, said, strict=True) if has)


def markdown(verdicts: Sequence[Verdict], title: str) -> str:
    """A table, the commands that each experiment is, and how to read it."""
    lines = [f"# {_md(title)}", "", f"{counts(verdicts)}. {_now()}", ""]
    headings, rows = filled(verdicts)
    lines += ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(map(_md, row)) + " |" for row in rows]
    commands = _commands(verdicts)
    if commands:
        lines += ["", "## Commands", ""]
        for name, run in commands:
            lines += [f"{_md(name)}:", "", *(f"    {line}" for line in run), ""]
    return "\n".join([*lines, "", *READING, ""])


def draw_comparisons(verdicts: Sequence[Verdict], home: Home) -> list[Picture]:
    """What the studies draw over one another, as far as two or more of the runs are among the verdicts."""
    runs = {verdict.experiment: verdict.run for verdict in verdicts if verdict.run is not None}
    pictures = []
    for comparison in COMPARISONS:
        found = {row: course_of(find_run(home, runs[row])) for row in comparison.rows if row in runs}
        courses = {row.partition("/")[2]: course for row, course in found.items() if course is not None}
        if len(courses) > 1:
            study = comparison.rows[0].partition("/")[0]
            pictures.append(Picture(f"{study}: {comparison.title}", picture_of(courses)))
    return pictures


def html(verdicts: Sequence[Verdict], title: str, comparisons: Sequence[Picture] = ()) -> str:
    """A page that reads on a telephone too; pictures are part of it."""
    headings, texts = filled(verdicts)
    rows = "\n".join(_row(verdict, headings, row) for verdict, row in zip(verdicts, texts, strict=True))
    commands = "".join(
        f"<dt>{escape(name)}</dt><dd><pre>{escape(chr(10).join(run))}</pre></dd>\n"
        for name, run in _commands(verdicts)
    )
    return _PAGE.format(
        title=escape(title),
        counts=escape(counts(verdicts)),
        now=_now(),
        head="".join(f"<th>{escape(heading)}</th>" for heading in headings),
        rows=rows,
        commands=f"<h2>Commands</h2>\n<dl>\n{commands}</dl>" if commands else "",
        comparisons=_comparisons(comparisons),
        curves=_pictures(verdicts),
        reading="".join(f"<p>{escape(line)}</p>" for line in READING),
    )


def _row(verdict: Verdict, headings: Sequence[str], texts: Sequence[str]) -> str:
    name, *rest = texts
    columns = "".join(
        f'<td data-name="{escape(heading)}">{escape(text)}</td>'
        for heading, text in zip(headings[1:], rest, strict=True)
    )
    kind = verdict.verdict.split()[0] if verdict.comparable or verdict.measured is None else "other"
    head = f"<th>{escape(name)}<small>{escape(verdict.summary)}</small></th>"
    return f'<tr class="{escape(kind)}">{head}{columns}</tr>'


def _comparisons(pictures: Sequence[Picture]) -> str:
    figures = [f"<h3>{escape(picture.title)}</h3>{_image(picture)}" for picture in pictures]
    return "<h2>Comparisons</h2>\n" + "\n".join(figures) if figures else ""


def _pictures(verdicts: Sequence[Verdict]) -> str:
    """The curves of every experiment; those of a sweep have all of its settings."""
    shown = {verdict.curves: verdict for verdict in verdicts if verdict.curves is not None}
    figures = [
        f"<details open><summary>{escape(verdict.experiment)}: {escape(verdict.summary)}</summary>"
        f"{_image(Picture(verdict.experiment, path.read_bytes()))}</details>"
        for path, verdict in shown.items()
        if path.is_file()
    ]
    return "<h2>Curves</h2>\n" + "\n".join(figures) if figures else ""


def _image(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return f'<img alt="training curves: {escape(picture.title)}" src="data:image/png;base64,{data}">'


def _commands(verdicts: Sequence[Verdict]) -> list[tuple[str, tuple[str, ...]]]:
    """Experiment -> the command lines that it is."""
    return list({verdict.experiment: verdict.commands for verdict in verdicts if verdict.commands}.items())


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _md(text: str) -> str:
    """Text that cannot leave its cell nor become markup."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .6rem; }}
th, td {{ border-bottom: 1px solid var(--line); }}
td {{ font-variant-numeric: tabular-nums; }}
small {{ display: block; font-weight: normal; opacity: .7; }}
tr > th:first-child {{ border-left: .3rem solid #8886; }}
tr.inside > th {{ border-left-color: #2a8a4a; }}
tr.above > th {{ border-left-color: #2a6fb0; }}
tr.below > th {{ border-left-color: #c2571a; }}
pre {{ overflow-x: auto; background: #8882; padding: .5rem; margin: .2rem 0 .8rem; font-size: .8rem; }}
dd {{ margin: 0; }}
img {{ width: 100%; background: #fff; }}
summary {{ cursor: pointer; padding: .3rem 0; }}
footer {{ font-size: .85rem; opacity: .8; }}
@media (max-width: 45rem) {{
  thead {{ display: none; }}
  tr, th, td {{ display: block; }}
  tr {{ margin-bottom: 1rem; }}
  td {{ border: 0; padding: .1rem .6rem; }}
  td::before {{ content: attr(data-name) ": "; opacity: .7; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{counts}. {now}</p>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
{comparisons}
{curves}
{commands}
<footer>{reading}</footer>
</body>
</html>
"""
