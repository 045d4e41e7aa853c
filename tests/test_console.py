"""What every command promises of its help, its errors and its output, whatever the command."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from probe.cli import cli, main
from tests.shell import PHOTOS, Shell


def commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """The context of every command that is no group."""
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from commands(child, click.Context(child, info_name=name, parent=context))


ALL = list(commands(cli, click.Context(cli, info_name="probe", **cli.context_settings)))
NAMES = [context.command_path for context in ALL]


@pytest.mark.parametrize("context", ALL, ids=NAMES)
def test_help_shows_the_default_of_every_option(context: click.Context) -> None:
    for option in context.command.params:
        if not isinstance(option, click.Option) or option.required:
            continue
        record = option.get_help_record(context)
        assert record is not None
        default = option.to_info_dict()["default"]
        if option.is_bool_flag and not option.secondary_opts:
            assert default in (False, None), f"{option.opts} is on and cannot be put off"
        elif default in (None, (), ""):
            assert "default" in record[1], (option.opts, record)  # in words, what stands for it
        else:
            shown = default
            if option.is_bool_flag:
                shown = (option.opts if default else option.secondary_opts)[0].removeprefix("--")
            assert f"[default: {shown}" in record[1], (option.opts, record)


def test_help_shows_lists_as_they_are_typed(shell: Shell) -> None:
    for head, told in (("dense", "[default: 1024,512]"), ("knn", "[default: 1,3,5,10,20,50,100]")):
        assert told in " ".join(shell("fit", head, "--help").split())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a store with one view, and a run on it."""
    home = tmp_path_factory.mktemp("kept")
    for line in (
        "extract --backbone pixels --size 4 --limit 300 --views 1 fashion-sample --quiet",
        "fit knn --k 1 --quiet",
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--home", str(home), *line.split()])
        assert stop.value.code == 0
    return home


WRONG_USE = [
    "frobnicate",
    "--nonsense",
    "fit",
    "fit nosuchhead",
    "fit logreg --nonsense",
    "fit logreg nosuchstore",
    "fit logreg --output nothing",
    "fit logreg --views 2",
    "fit logreg --average-views --views 1",
    "fit logreg --c 0",
    "fit logreg --c x",
    "fit logreg --cv 1",
    "fit logreg --cv -3",
    "fit logreg --cv 9999",
    "fit logreg --tolerance -1",
    "fit logreg --jobs 0",
    "fit logreg --seed -1",
    "fit logreg --memory inf",
    "fit logreg --memory -1GB",
    "fit logreg --shots ²",
    "fit logreg --shots 0",
    "fit logreg --train-fraction 2",
    "fit logreg --train-fraction x",
    "fit logreg --repeats 0 --shots 1",
    "fit logreg --class-weight none",
    "fit knn --k 0",
    "fit knn --k 1.5",
    "fit ridge --alpha -1",
    "fit dense --seed -1",
    "fit dense --epochs 0",
    "fit dense --learning-rate nan",
    "fit dense --dropout 1",
    "fit conv --network ZZ",
    "runs show nosuchrun",
    "runs show latest:99",
    "runs rm nosuchrun",
    "stores show nosuchstore",
    "stores verify nosuchstore",
    "stores rm nosuchstore",
    "stores rm",
    "stores import /no/such.npy",
    "stores import PHOTOS/ATTRIBUTION.md",
    "stores export --output nothing",
    "stores export --output-file /no/such/x.npz",
    "compare latest",
    "compare latest latest",
    "compare latest nosuchrun",
    "predict latest",
    "predict latest /no/such.png",
    "predict nosuchrun PHOTOS",
    "export nosuchrun",
    "export latest --format pdf",
    "extract PHOTOS",
    "extract --backbone nosuchnet PHOTOS",
    "extract --backbone pixels /no/such",
    "extract --backbone pixels --precision fp99 PHOTOS",
    "extract --backbone pixels --outputs nothing PHOTOS",
    "extract --backbone pixels --size 0 PHOTOS",
    "extract --backbone pixels --split nan,0.5,0.5 PHOTOS",
    "extract --backbone pixels --split 0.5,0.5 PHOTOS",
    "extract --backbone pixels --shard ²/³ PHOTOS",
    "extract --backbone pixels --shard 4/4 PHOTOS",
    "extract --backbone pixels --labels /no/such.csv PHOTOS",
    "extract --backbone pixels --views 1 --augment wobble PHOTOS",
    "extract --backbone pixels --weights /no/such.h5 PHOTOS",
    "extract --backbone pixels --preprocess nothing PHOTOS",
    "extract --backbone pixels --jobs 2 --shard 0/2 PHOTOS",
    "extract --backbone pixels cub200 --from /no/such",
    "data fetch nosuchset",
    "data check nosuchset",
    "data check cub200 --from /no/such",
    "finetune --store nosuchstore",
    "finetune --backbone nosuchnet PHOTOS",
    "baseline run nosuchstudy",
    "baseline show nosuchstudy",
    "sweep nosuchstudy",
    "sweep cifar10/exp1 --set nothing=1",
    "sweep cifar10/exp1 --cv 1",
    "reproduce nosuchstudy",
    "reproduce cifar10 --output x.pdf",
    "reproduce cifar10 --output /no/such/x.md",
    "reproduce cifar10 --data-map x",
]


@pytest.mark.parametrize("line", WRONG_USE)
def test_wrong_use_is_exit_code_two_and_with_json_an_object_on_stderr(
    kept: Path, shell: Shell, line: str
) -> None:
    shell.home = kept
    before = sorted(path for path in kept.rglob("*") if "cache" not in path.parts)
    words = line.replace("PHOTOS", str(PHOTOS)).split()
    assert shell(*words, "--json", code=2) == ""
    found = json.loads(shell.error.splitlines()[-1])
    assert set(found) == {"error"}
    assert set(found["error"]) == {"type", "problem", "expected", "found", "hint", "exit_code"}
    assert found["error"]["exit_code"] == 2
    assert found["error"]["problem"]
    assert sorted(path for path in kept.rglob("*") if "cache" not in path.parts) == before


def test_an_error_in_json_says_what_the_text_says(shell: Shell) -> None:
    shell("runs", "show", "--json", code=1)
    found = json.loads(shell.error)["error"]
    shell("runs", "show", code=1)
    assert found["type"] == "RunError"
    assert found["problem"] in shell.error
    assert found["hint"] in shell.error
    assert found["exit_code"] == 1


def test_an_interrupted_command_says_so_in_json(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    shell("runs", "ls", "--json", code=130)
    assert json.loads(shell.error)["error"]["exit_code"] == 130


def test_removal_looks_before_it_asks(kept: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.home = kept
    store, run = next((kept / "stores").iterdir()).name, next((kept / "runs").iterdir()).name
    for command, name, told in (
        ("runs", run, "knn on fashion-sample"),
        ("stores", store, "300 rows of pixels"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
        shell(command, "rm", name, code=1)
        assert name in shell.error
        assert told in shell.error
        assert " MB, written 2" in shell.error
        assert "nothing was deleted" in shell.error
        shell(command, "rm", name[:-1], code=2)
        assert "delete" not in shell.error
        assert f"did you mean {name!r}" in shell.error
    assert (kept / "runs" / run).is_dir()
    assert (kept / "stores" / store).is_dir()


def test_what_cannot_be_read_can_be_removed_and_is_said(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("runs", "stores"):
        folder = shell.home / kind / "broken"
        folder.mkdir(parents=True)
        (folder / "result.json").write_bytes(b"x" * 2_000_000)
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        shell(kind, "rm", "broken")
        assert "2.0 MB" in shell.error
        assert not folder.exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_console_that_lacks_a_sign_gets_another_spelling(
    kept: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    def said(*words: str) -> str:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit):
                main(["--home", str(kept), *words])
        for stream in (out, err):
            stream.flush()
        assert isinstance(out.buffer, io.BytesIO)
        assert isinstance(err.buffer, io.BytesIO)
        return (out.buffer.getvalue() + err.buffer.getvalue()).decode(encoding)

    assert " - " in said("runs", "show")
    assert "1x" in said("stores", "ls") or "48" in said("stores", "ls")
    assert "<= 1" in said("fit", "logreg", "--train-fraction", "7")


def test_a_reader_that_goes_away_is_told_by_the_exit_code_alone(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    out = open(writing, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as stop:
            main(["--home", str(kept), "runs", "ls"])
    with suppress(BrokenPipeError):
        out.close()
    assert stop.value.code == 128 + signal.SIGPIPE
    assert not capsys.readouterr().err


def test_closed_streams_cost_no_work(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "probe", "--home", str(tmp_path / "home"), "extract", "fashion-sample"]
    words += ["--backbone", "pixels", "--size", "4", "--limit", "60"]
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&- 2>&-', *words],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert b"60 computed" in ended.stdout
