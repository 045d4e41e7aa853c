"""One file has many names: ``./a``, ``a//b``, ``a\\b``, letters composed (NFC) and decomposed (NFD)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from probe.errors import DataError
from probe.text import count_of

DOTS = "written with ./ or doubled slashes"
LETTERS = "with accents composed in another way (NFC, NFD) than in the names of the files"
SLASHES = "with backslashes, read as slashes"


class Spellings:
    """Finds the file that is meant by a name; `used` counts what had to be looked past."""

    def __init__(self, files: Iterable[str]) -> None:
        self.used: Counter[str] = Counter()
        self._files = set(files)
        self._composed: dict[str, list[str]] = {}
        for file in sorted(self._files):
            self._composed.setdefault(composed(file), []).append(file)

    def file(self, name: str) -> str:
        """The name of the file as it is on disk; `name`, tidied, where there is none.

        Raises DataError when it may be either of two files whose names differ in nothing one can see.
        """
        if name in self._files:
            return name
        for how, spelt in ((DOTS, name), (SLASHES, name.replace("\\", "/"))):
            tidy = str(PurePosixPath(spelt))
            found = [tidy] if tidy in self._files else self._composed.get(composed(tidy), [])
            if len(found) > 1:
                raise DataError(
                    f"{name!r} may be either of two files",
                    found=" and ".join(map(ascii, found)),
                    hint="rename one of them: the names differ in Unicode form only",
                )
            if found:
                self._count(how, name, tidy, found[0])
                return found[0]
        return str(PurePosixPath(name))

    def _count(self, how: str, name: str, tidy: str, file: str) -> None:
        if name != tidy:
            self.used[how] += 1
        if tidy != file:
            self.used[LETTERS] += 1

    def notes(self, where: str) -> list[str]:
        """What to say of `where` the names came from."""
        return [f"{count_of(number, 'path')} in {where} {how}" for how, number in sorted(self.used.items())]


def composed(text: str) -> str:
    """`text` in Unicode's composed form, in which equal letters are equal."""
    return unicodedata.normalize("NFC", text)
