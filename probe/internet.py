"""One file over HTTP, resumed after every break, its hash checked: data sets and weights come this way."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from probe.durable import WRITING, link, settle
from probe.errors import DownloadError
from probe.failpoints import reach
from probe.scratch import scratch_folder

Progress = Callable[[str, int, int], None]
"""Called with the file's name, the bytes that are here and the bytes there are (0 when unknown)."""

CONNECT_SECONDS, READ_SECONDS = 15, 60
ANSWER_SECONDS = 5
FRUITLESS_ATTEMPTS = 5
UNREACHED_ATTEMPTS = 2
"""A machine without the internet should say so soon."""
ATTEMPTS = 200
_MOST_BYTES = 200 * 2**30
# A break loses at most this much of what was received.
_CHUNK = 2**14
_HEAD = 512
_LONGEST_REASON = 200
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<!--", b"<script", b"<meta")


@dataclass(frozen=True)
class RemoteFile:
    """One file a publisher offers.

    Attributes
    ----------
    name : file name on disk.
    url : where it is; empty when it cannot be fetched by a program.
    bytes : its size; 0 when it is not known.
    sha256, md5 : pinned hashes as hex digits; the md5 is the publisher's where nothing better is known.
    """

    name: str
    url: str
    bytes: int = 0
    sha256: str = ""
    md5: str = ""

    @property
    def known_hash(self) -> str:
        """``sha256:…``, or ``md5:…`` where only that is known."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


def answers(url: str) -> bool:
    """Whether anything answers there within `ANSWER_SECONDS`, whatever it says."""
    import requests

    try:
        requests.head(url, timeout=ANSWER_SECONDS)
    except requests.RequestException:
        return False
    return True


def download(file: RemoteFile, folder: Path, *, progress: Progress | None = None, pause: float = 1.0) -> Path:
    """Bring `file` to ``folder / file.name``, going on with the ``.part`` that an earlier call left there.

    Nothing appears under that name whose hash is not the pinned one, and what does outlasts a power cut. One
    process at a time: the caller holds a lock. `pause` is the time before the first repetition in seconds,
    doubled after each fruitless one.

    Raises
    ------
    DownloadError : not reachable, refused, a web page in its place, another size or another hash.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    target, part = folder / file.name, folder / f"{file.name}.part"
    kind, _, digest = file.known_hash.partition(":")
    if target.is_file() and pooch.file_hash(str(target), alg=kind) == digest:
        part.unlink(missing_ok=True)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    downloader = ResumingDownloader(file, part, progress, pause)
    while True:
        resumed_before = downloader.resumed
        try:
            with scratch_folder(folder, WRITING) as scratch:
                settle(_retrieve(file, scratch, downloader), target)
            part.unlink()
            return target
        except ValueError as error:
            part.unlink(missing_ok=True)
            # What was kept of an earlier attempt may belong to another version: once more, from nothing.
            if downloader.resumed and not resumed_before:
                continue
            found = re.search(r"but got ([0-9a-f]+)", str(error))
            raise DownloadError(
                f"{file.name} from {file.url} is not the file that is known",
                expected=file.known_hash,
                found=found[1] if found else str(error),
                hint="it was deleted; its publisher may have changed it",
            ) from error


def _retrieve(file: RemoteFile, folder: Path, downloader: ResumingDownloader) -> Path:
    """The file in `folder`; ValueError for another hash than the pinned one."""
    import pooch

    found = pooch.retrieve(file.url, file.known_hash, fname=file.name, path=folder, downloader=downloader)
    return Path(found)


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
        """Bring `url` to `output_file`. Raises DownloadError when it cannot be had."""
        fruitless, reason, patience = 0, "", UNREACHED_ATTEMPTS
        for _ in range(ATTEMPTS):
            before = self._have()
            try:
                if self._transfer(url):
                    reach("fetch-whole")
                    # The part stays until the file has its name: a kill while it is hashed costs no transfer.
                    link(self.part, Path(output_file))
                    return
                reason, patience = "the server ended the transfer early", FRUITLESS_ATTEMPTS
            except _Again as again:
                reason = str(again)
                patience = FRUITLESS_ATTEMPTS if again.reached else patience
            fruitless = 0 if self._have() > before else fruitless + 1
            if fruitless >= patience:
                break
            time.sleep(self.pause * 2 ** max(fruitless - 1, 0))
        raise DownloadError(
            f"{self.file.name} cannot be fetched from {url}",
            found=reason,
            hint="run it again, it goes on where it stopped",
        )

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self, url: str) -> bool:
        """One request; whether the file is complete now."""
        import requests
        import urllib3

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
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Again(_network_reason(error), reached=_was_reached(error)) from error

    def _receive(self, url: str, response: Any, have: int) -> bool:
        self._judge(url, response)
        chunks = _chunks(response)
        head = next(chunks, b"")
        if _is_web_page(head, response.headers.get("Content-Type", "")):
            raise DownloadError(
                f"the publisher answered with a web page, not {self.file.name}: {url}",
                hint="open the address in a browser: it may ask to confirm or to sign in",
            )
        start = have if response.status_code == 206 and _range_start(response) == have else 0
        if start == 0 and response.status_code == 206 and _range_start(response) != 0:
            raise _Again("the server sent another part than the one asked for")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else 0
        if self.file.bytes and total and total != self.file.bytes:
            raise DownloadError(
                f"{self.file.name} at {url} is not the file that is known",
                expected=f"{self.file.bytes:,} bytes",
                found=f"{total:,} bytes",
                hint="its publisher may have changed it",
            )
        self.resumed = self.resumed or start > 0
        complete = self.file.bytes or total
        here = start
        with open(self.part, "ab" if start else "wb", opener=_no_link) as file:
            for chunk in itertools.chain((head,), chunks):
                here += file.write(chunk)
                reach("fetch-block")
                if here > (complete or _MOST_BYTES):
                    raise DownloadError(f"{url} sends more than {complete or _MOST_BYTES:,} bytes")
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
            raise DownloadError(
                f"{self.file.name} cannot be fetched from {url}", found=f"the server answered {status}"
            )


def _no_link(path: str, flags: int) -> int:
    """For `open`: no link is followed, which would write elsewhere, and no pipe waited for; OSError."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


class _Again(Exception):
    """This request failed in a way the next one may not; `reached` says whether the server was there."""

    def __init__(self, reason: str, *, reached: bool = True) -> None:
        super().__init__(reason)
        self.reached = reached


def _chunks(response: Any) -> Iterator[bytes]:
    """The body as it was sent, the first piece long enough to be judged.

    Some servers call a .tgz "encoded with gzip": undoing that would give other bytes than those hashed.
    """
    import urllib3

    pieces = response.raw.stream(_CHUNK, decode_content=False)
    head = b""
    try:
        while len(head) < _HEAD and (piece := next(pieces, b"")):
            head += piece
    except urllib3.exceptions.HTTPError:
        yield head
        raise
    yield head
    yield from pieces


def _is_web_page(head: bytes, content_type: str) -> bool:
    """By its first bytes, since servers call archives text/html and web pages octet-stream."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(_PAGE) or ("html" in content_type.lower() and start.startswith(b"<"))


def _range_start(response: Any) -> int:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _network_reason(error: Exception) -> str:
    """Why the network failed, in one line a user can act on.

    requests nests its reasons four deep; what matters is whether the server answered at all.
    """
    import requests
    import urllib3

    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"{_host(error)} does not answer"
    if isinstance(error, urllib3.exceptions.HTTPError):
        return f"the connection to {_host(error)} was lost"
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return f"{_host(error)} does not answer"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {_host(error)}, or it was lost"
    return f"{type(error).__name__}: {str(error)[:_LONGEST_REASON]}"


def _was_reached(error: Exception) -> bool:
    """Whether the server was there before the connection was lost: asking again soon may then help."""
    import requests
    import urllib3

    if not isinstance(error, requests.ConnectionError):
        return True
    return bool(error.args) and isinstance(error.args[0], urllib3.exceptions.ProtocolError)


def _host(error: Exception) -> str:
    request = getattr(error, "request", None)
    return (urlsplit(request.url).hostname if request is not None else None) or "the server"
