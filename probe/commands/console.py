"""What reaches the console: lines that any encoding can take, and errors for people or for machines."""

from __future__ import annotations

import codecs
import errno
import io
import json
import sys
from typing import Any

import click

from probe.errors import ProbeError
from probe.plain import lines
from probe.signals import INTERRUPTED

REPLACE = "probe.replace"
"""Name of the error handler of encodings, see `any_console`."""

_AGAIN = "run the same command again: what was finished is kept"
OF_DISKS = {
    errno.ENOSPC: f"make room on the disk of the home, and {_AGAIN}",
    errno.EDQUOT: f"make room on the disk of the home, and {_AGAIN}",
    errno.EIO: f"the disk is damaged or not reached: see what the system's log says of it, and {_AGAIN}",
}
"""What to do about errors that are no fault of a file."""
KNOWN = (ProbeError, OSError, MemoryError, click.ClickException)
"""Errors that are no bug of this program."""

PLAIN = str.maketrans(
    {
        "–": "-",
        "—": "-",
        "−": "-",
        "×": "x",
        "·": "*",
        "±": "+/-",
        "≤": "<=",
        "≥": ">=",
        "…": "...",
        "→": "->",
    }
)


def any_console() -> None:
    """Let stdout and stderr take every character: what an encoding lacks is spelt with what it has.

    Signs become their ASCII spelling, other characters (a letter in a file name, bytes of a name that is no
    text) their escaped code.
    """
    codecs.register_error(REPLACE, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACE)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def echo(line: str, *, err: bool = False) -> None:
    """A line on stdout, or on stderr; control characters in it, a name's for instance, are spelt out."""
    # With the stream named click keeps its encoding; by itself it writes UTF-8 to an ASCII console.
    click.echo(lines(line), file=sys.stderr if err else sys.stdout)


def say_error(error: Exception, exit_code: int, *, as_json: bool) -> None:
    """One message on stderr; with `as_json` one line, the last of stderr: ``{"error": {…}}``."""
    if as_json:
        echo(json.dumps({"error": error_record(error, exit_code)}), err=True)
    elif isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(file=shown)
        echo(shown.getvalue().removesuffix("\n"), err=True)
    else:
        echo(f"probe: {_told(error)}", err=True)


def error_record(error: Exception, exit_code: int) -> dict[str, Any]:
    """``type``, ``problem``, ``expected``, ``found``, ``hint`` and ``exit_code`` of any error."""
    told = _told(error)
    return {
        "type": _type(error),
        "problem": told.problem,
        "expected": told.expected,
        "found": told.found,
        "hint": told.hint,
        "exit_code": exit_code,
    }


def _type(error: Exception) -> str:
    if isinstance(error, click.Abort):
        return "Interrupted"
    if isinstance(error, click.UsageError):
        return "UsageError"
    return type(error).__name__ if isinstance(error, KNOWN) or _is_of_the_locale(error) else "InternalError"


def _is_of_the_locale(error: Exception) -> bool:
    """Whether a path has characters for which the encoding of file names has no bytes."""
    return isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding()


def _told(error: Exception) -> ProbeError:
    """Any error in the four parts of a ProbeError."""
    if isinstance(error, ProbeError):
        return error
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = f"{context.command_path} --help" if context is not None else None
        return ProbeError(error.format_message(), hint=hint)
    if isinstance(error, click.Abort):
        return ProbeError(INTERRUPTED)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return ProbeError(f"{error.strerror or error}{where}", hint=OF_DISKS.get(error.errno or 0))
    if isinstance(error, MemoryError):
        return ProbeError(
            "there is not enough memory",
            found=str(error) or None,
            hint="ask for less at once: --help says how",
        )
    if _is_of_the_locale(error):
        assert isinstance(error, UnicodeEncodeError)
        return ProbeError(
            f"a file name cannot be spelt in {error.encoding}, the encoding of this locale",
            found=error.object,
            hint="set PYTHONUTF8=1",
        )
    return ProbeError(
        f"internal error, a bug in probe: {type(error).__name__}: {error}", hint="PROBE_DEBUG=1"
    )
