"""Where a verb works, and who hears of it."""

from __future__ import annotations

from dataclasses import dataclass

from probe.config import Home
from probe.progress import say


@dataclass(frozen=True)
class Context:
    """What every verb of a workspace needs.

    Attributes
    ----------
    home : the folder of data sets, weights, stores and runs.
    quiet : neither notes nor progress on stderr.
    """

    home: Home
    quiet: bool = False

    def say(self, line: str) -> None:
        """Something the user should see that is not the result: on stderr."""
        if not self.quiet:
            say(line)

    @property
    def progress(self) -> bool:
        """Whether long work says how far it has come; see `probe.progress` for what is shown where."""
        return not self.quiet
