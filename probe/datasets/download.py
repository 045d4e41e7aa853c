"""One file over HTTP, resumed after every break; pooch checks its hash."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.datasets.row import RemoteFile
from probe.errors import DataError
from probe.reasons import network_reason

Progress = Callable[[str, int, int], None]
"""Called with the file's name, the bytes that are here and the bytes there are (0 when unknown)."""

CONNECT_SECONDS, READ_SECONDS = 15, 60
FRUITLESS_ATTEMPTS = 5
ATTEMPTS = 200
_MOST_BYTES = 200 * 2**30
# A break loses at most this much of what was received.
_CHUNK = 2**14


@dataclass
class ResumingDownloader:
    """A pooch downloader that keeps what it has in `part` and asks only for the rest.

    Attributes
    ----------
    file : what is fetched; its size is checked against the server's before anything is written.
    part : the incomplete file; survives breaks, kills and later runs.
    pause : seconds before the first repetition, doubled after each fruitless one.
    resumed : set when bytes of an earlier request were kept.
    """

    file: RemoteFile
    part: Path
    progress: Progress | None = None
    pause: float = 1.0
    resumed: bool = False

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        """Bring `url` to `output_file`. Raises DataError when it cannot be had."""
        fruitless, reason = 0, ""
        for _ in range(ATTEMPTS):
            before = self._have()
            try:
                if self._transfer(url):
                    self.part.replace(output_file)
                    return
                reason = "the server ended the transfer early"
            except _Again as again:
                reason = str(again)
            fruitless = 0 if self._have() > before else fruitless + 1
            if fruitless >= FRUITLESS_ATTEMPTS:
                break
            time.sleep(self.pause * 2**fruitless)
        raise DataError(
            f"{self.file.name} cannot be fetched from {url}",
            found=reason,
            hint="run it again, it goes on where it stopped; or fetch the file by hand and use --from",
        )

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self, url: str) -> bool:
        """One request; whether the file is complete now."""
        import requests

        have = self._have()
        if self.file.bytes and have > self.file.bytes:
            self.part.unlink()
            have = 0
        if self.file.bytes and have == self.file.bytes:
            self.resumed = True
            return True
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(
                url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)
            ) as response:
                return self._receive(url, response, have)
        except requests.RequestException as error:
            raise _Again(network_reason(error)) from error

    def _receive(self, url: str, response: Any, have: int) -> bool:
        self._judge(url, response)
        start = have if response.status_code == 206 and _range_start(response) == have else 0
        if start == 0 and response.status_code == 206 and _range_start(response) != 0:
            raise _Again("the server sent another part than the one asked for")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else 0
        if self.file.bytes and total and total != self.file.bytes:
            raise DataError(
                f"{self.file.name} at {url} is not the file that is known",
                expected=f"{self.file.bytes:,} bytes",
                found=f"{total:,} bytes",
                hint="the publisher may have changed it: fetch it by hand and use --from",
            )
        self.resumed = self.resumed or start > 0
        complete = self.file.bytes or total
        here = start
        with self.part.open("ab" if start else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                here += file.write(chunk)
                if here > (complete or _MOST_BYTES):
                    raise DataError(f"{url} sends more than {complete or _MOST_BYTES:,} bytes")
                if self.progress is not None:
                    self.progress(self.file.name, here, complete)
        return here == complete if complete else True

    def _judge(self, url: str, response: Any) -> None:
        status = response.status_code
        if status == 416:
            self.part.unlink(missing_ok=True)
            raise _Again("the server does not know the part that was asked for")
        if status in (408, 425, 429) or status >= 500:
            raise _Again(f"the server answered {status}")
        if status >= 400:
            raise DataError(
                f"{self.file.name} cannot be fetched from {url}",
                found=f"the server answered {status}",
                hint="fetch it by hand and use --from",
            )
        if "text/html" in response.headers.get("Content-Type", ""):
            raise DataError(
                f"{url} gives a web page, not {self.file.name}",
                hint="open the address in a browser, fetch the file by hand and use --from",
            )


class _Again(Exception):
    """This request failed in a way the next one may not."""


def _range_start(response: Any) -> int:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1
