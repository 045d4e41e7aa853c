"""Errors meant for the person at the keyboard.

Raise them where the fact is known. `probe.cli` is the one place that turns them into a message and an
exit code; a traceback that reaches a user is a bug.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from probe.plain import one_line

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_VERIFY = 3
EXIT_UNREADABLE = 4


NOT_WRITABLE = {
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
}
"""What the system says of places where making room does not help."""


PASSING = {
    *NOT_WRITABLE,
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR),
}
"""Errors of the system that say nothing of the content of a file: another time it may be read."""


LISTED = 24
"""Names an error lists; a network has hundreds of layers."""


class ProbeError(Exception):
    """What is wrong, what was expected, what was found and what to do next.

    Parameters
    ----------
    problem : what is wrong, one sentence without a full stop.
    expected, found : the two sides of the disagreement, where there is one.
    hint : the next step for the user.
    """

    exit_code = EXIT_FAILED

    def __init__(
        self, problem: str, *, expected: str | None = None, found: str | None = None, hint: str | None = None
    ) -> None:
        self.problem = problem
        self.expected = expected
        self.found = found
        self.hint = hint
        super().__init__(problem)

    def __str__(self) -> str:
        # A name in it may have the end of a line, and what follows would be told as of our own.
        lines = [one_line(self.problem)]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.found is not None:
            lines.append(f"  found:    {self.found}")
        if self.hint is not None:
            lines.append(f"  try:      {self.hint}")
        return "\n".join(lines)


def is_passing(error: BaseException) -> bool:
    """Whether an error comes from one of the system that says nothing of what is in the file."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in PASSING:
            return True
        # `zipfile` says of a file that it could not read that it is none, and only the context tells why.
        cause = cause.__cause__ or cause.__context__
    return False


class UsageError(ProbeError):
    """The command line, a configuration file or an argument asks for something that cannot be."""

    exit_code = EXIT_USAGE


class UnknownNameError(UsageError):
    """A name that is in no table."""


class DataError(ProbeError):
    """A data set, an archive or a label file is not what it should be."""


class LinkError(ProbeError):
    """A link lies on the way to what a home keeps, and would lead elsewhere."""


class StoreError(ProbeError):
    """A store is missing, unfinished, of another version, or not what it says it is."""


class ReadOnlyError(StoreError):
    """A store lies where nothing can be written; what it holds can still be read."""


class RunError(ProbeError):
    """A run is missing, damaged or of another version."""


class DownloadError(ProbeError):
    """A file cannot be fetched, or is not the one that is known."""


class WeightsError(ProbeError):
    """Weights cannot be found, fetched or trusted."""


class FitError(ProbeError):
    """A head cannot be fitted on what it was given."""


class FitOptionError(FitError, UsageError):
    """An option of a fit asks for what cannot be."""


def unknown_name(kind: str, name: str, known: Iterable[str], folder: Path | None = None) -> UnknownNameError:
    """The error for a name that is not in `known`, with the closest spelling as the hint.

    `folder`, inside a home, is where such things are kept.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    hints = [f"did you mean {near[0]!r}?"] if near else []
    hints += ["another home is named by --home or PROBE_HOME"] if folder is not None else []
    return UnknownNameError(
        f"there is no {kind} called {name!r}" + (f" in {folder.resolve()}" if folder is not None else ""),
        expected="one of " + ", ".join(names[:LISTED]) + more if names else f"there is no {kind} yet",
        hint=" ".join(hints) or None,
    )


def ambiguous_name(kind: str, name: str, candidates: Mapping[str, Mapping[str, object]]) -> UnknownNameError:
    """The error for a name that fits several: each with the facts in which they differ."""
    facts = {fact: {str(c.get(fact)) for c in candidates.values()} for c in candidates.values() for fact in c}
    telling = [fact for fact, values in facts.items() if len(values) > 1]
    lines = []
    for candidate, known in list(candidates.items())[:LISTED]:
        told = ", ".join(f"{fact} {known[fact]}" for fact in telling if known.get(fact) is not None)
        lines.append(f"{candidate}: {told}" if told else candidate)
    more = [f"and {len(candidates) - LISTED} more"] if len(candidates) > LISTED else []
    return UnknownNameError(
        f"{name!r} fits several {kind}s",
        expected="one of\n    " + "\n    ".join(lines + more),
        hint="give the whole name",
    )
