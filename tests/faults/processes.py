"""Processes of ``probe`` that are killed or fail at a named place, a few milliseconds each.

One process loads what the commands need and is forked for every call: it is asked by a line of JSON and
answers by one. It computes nothing, with TensorFlow or without, before it forks.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from probe.datasets import RemoteFile

PROJECT = Path(__file__).parents[2]
SECONDS = 600
"""Of a call, at most: what takes longer hangs."""
ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_DETERMINISTIC_OPS": "1"}
LOADED = (
    "probe.workspace.workspace",
    "probe.extract",
    "probe.fit",
    "probe.heads.ridge",
    "probe.heads.centroid",
    "probe.commands.extract",
    "probe.commands.fit",
    "probe.commands.stores",
    "probe.report.runs",
    "scipy.optimize",
    "scipy.special",
    "pooch",
    "requests",
)
TRAINING = (
    *(*LOADED, "probe.tensorflow_setup", "probe.finetune.run", "probe.studies.sweep_job"),
    *("probe.commands.finetune", "probe.commands.sweep", "matplotlib.backends.backend_agg"),
)
"""For works that train networks: loading these takes seconds."""


@dataclass(frozen=True)
class Ended:
    """How a call ended: exit code, or minus the number of the signal; and what it said.

    Attributes
    ----------
    reached : whether what was to happen in it has happened.
    """

    code: int
    out: str
    error: str
    reached: bool


class Processes:
    """A context that starts them, with the library `preload` before all others where there is one.

    `published` are the files of data sets that are fetched, `loaded` the modules that are imported first;
    `failpoint` is as `probe.failpoints` has it.
    """

    def __init__(
        self,
        preload: Path | None = None,
        *,
        published: Mapping[str, Sequence[RemoteFile]] | None = None,
        loaded: Sequence[str] = LOADED,
    ) -> None:
        self._preload = {"LD_PRELOAD": str(preload)} if preload is not None else {}
        files = {name: [asdict(file) for file in found] for name, found in (published or {}).items()}
        self._given = json.dumps({"published": files, "loaded": list(loaded)})

    def __enter__(self) -> Processes:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PROBE_")}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.processes", self._given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            env=environment | ALONE | self._preload,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()

    def __call__(
        self,
        home: Path,
        *arguments: object,
        failpoint: str = "",
        broken: str = "",
        memory: int = 0,
    ) -> Ended:
        """Run ``probe`` on a home; `memory` bounds its address space beyond what it has, in bytes."""
        return self._ask(
            {
                "arguments": ["--home", str(home), *map(str, arguments)],
                "home": str(home),
                "failpoint": failpoint,
                "broken": broken,
                "memory": memory,
            }
        )

    def make(self, function: str, path: Path) -> None:
        """Call a function, ``module:name``, with a path in a process of its own."""
        done = self._ask({"function": function, "path": str(path)})
        assert done.code == 0, done

    def _ask(self, asked: Mapping[str, Any]) -> Ended:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))


def serve(given: str) -> None:
    """Answer until standard input ends."""
    import gc
    import importlib
    from dataclasses import replace

    from probe.datasets import DATASETS

    read = json.loads(given)
    for name, files in read["published"].items():
        DATASETS.rows[name] = replace(DATASETS[name], files=tuple(RemoteFile(**file) for file in files))
    for module in read["loaded"]:
        importlib.import_module(module)
    gc.freeze()  # what is loaded is shared by all that are forked, and no search for garbage touches it
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error, tempfile.TemporaryFile() as mark:
        child = os.fork()
        if not child:
            _run(asked, out.fileno(), error.fileno(), mark.fileno())
        _, status = os.waitpid(child, 0)
        texts = []
        for stream in (out, error, mark):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "out": texts[0], "error": texts[1], "reached": code < 0 or bool(texts[2])}


def _run(asked: dict[str, Any], out: int, error: int, mark: int) -> None:
    """In the child: never returns."""
    from probe import failpoints
    from probe.__main__ import main
    from probe.registry import load_object

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(error, 2)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the line of the parent is not for this process
    signal.alarm(SECONDS)
    code: object = 1
    try:
        if "function" in asked:
            load_object(asked["function"])(Path(asked["path"]))
            sys.exit()
        sys.argv = ["probe", *asked["arguments"]]
        if asked["memory"]:
            used = (
                int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            )
            resource.setrlimit(resource.RLIMIT_AS, (used + asked["memory"],) * 2)
        failpoints.arm(asked["failpoint"])
        _break(asked["broken"], asked["home"], mark)
        main()
    except SystemExit as stop:
        code = stop.code
    finally:
        if asked.get("failpoint") and not failpoints.is_armed():
            os.write(mark, b"reached")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _break(text: str, home: str, mark: int) -> None:
    """``CALL:N:ERROR``, as in ``fsync:3:ENOSPC``: the N-th such call of the system in this process fails.

    Calls are ``fsync``, ``rename`` and ``open``, this one for writing below the home. With the library of
    ``disk.c`` in the process that is told; it has ``write``, ``read``, ``fsync``, ``rename`` below the home.
    Into the file `mark` is written that it has.
    """
    if not text:
        return
    if "LD_PRELOAD" in os.environ:
        os.environ.update(FAULT_UNDER=home, FAULT_MARK=str(mark), FAULT=text)
        return
    import builtins
    import errno
    import io

    call, number, name = text.split(":")
    left = [int(number)]

    def fail() -> None:
        left[0] -= 1
        if not left[0]:
            os.write(mark, b"reached")
            raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), call)

    if call == "fsync":
        plain_sync = os.fsync

        def fsync(descriptor: int) -> None:
            fail()
            plain_sync(descriptor)

        os.fsync = fsync  # type: ignore[assignment]
    elif call == "rename":
        for function in ("rename", "replace"):
            plain = getattr(os, function)

            def moved(*places: Any, _plain: Any = plain, **options: Any) -> None:
                fail()
                _plain(*places, **options)

            setattr(os, function, moved)
    else:
        plain_open = builtins.open

        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if str(file).startswith(home) and set(mode) & set("wax+"):
                fail()
            return plain_open(file, mode, *rest, **options)

        builtins.open = opened
        io.open = opened  # type: ignore[assignment]


if __name__ == "__main__":
    serve(sys.argv[1])
