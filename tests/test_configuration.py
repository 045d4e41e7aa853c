"""``probe.toml`` and PROBE_* variables: nothing that is set is swallowed, and what applies is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.shell import PHOTOS, Shell


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one small store."""
    from probe.cli import run

    home = tmp_path_factory.mktemp("extracted") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home.parent)
        run(["--home", str(home), "extract", "--backbone", "pixels", "--size", "4", "--quiet", str(PHOTOS)])
    return home


@pytest.fixture
def configured(extracted: Path, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs in an empty working folder, where the tests write ``probe.toml``."""
    shutil.copytree(extracted, shell.home)
    monkeypatch.chdir(tmp_path)
    return shell


def write(text: str) -> None:
    Path("probe.toml").write_text(text, encoding="utf-8")


UNKNOWN = [
    ("[fit.logreg]\ncc = 1", "cc", "did you mean 'c'"),
    ("[nonsense]\na = 1", "nonsense", "sweep"),
    ("[fit]\nc = 1", "[fit] has no setting 'c'", "[fit.logreg]"),
    ("[fit.logreg]\nk = 5", "[fit.logreg] has no setting 'k'", "[fit.knn]"),
    ("[fit.logregg]\nc = 1", "logregg", "did you mean 'logreg'"),
    ("[extract]\nbatch-size = 4", "batch-size", "did you mean 'batch_size'"),
    ("[extract]\nbatchsize = 4", "batchsize", "did you mean 'batch_size'"),
    ("batch_size = 4", "batch_size", "[extract]"),
    ("homw = 'x'", "homw", "did you mean 'home'"),
    ("fit = 3", "fit is a command", "[fit]"),
    ("[fit]\nlogreg = 3", "logreg is a command", "[fit.logreg]"),
    ("[extract.pixels]\nsize = 3", "pixels", "backbone"),
    ("[stores.show]\nfull = true", "full", "[stores.verify]"),
    ("[sweep]\nversion = true", "version", "one of"),
    ("[heads.x]\na = 1", "[heads] has no setting 'x'", "json"),
]


@pytest.mark.parametrize("command", ["fit centroid", "runs ls"])
@pytest.mark.parametrize(("text", "said", "near"), UNKNOWN, ids=[text for text, _, _ in UNKNOWN])
def test_an_unknown_key_is_wrong_use_and_the_nearest_is_named(
    configured: Shell, text: str, said: str, near: str, command: str
) -> None:
    write(text)
    configured(*command.split(), code=2)
    assert said in configured.error
    assert near in configured.error
    assert "probe.toml" in configured.error


VALUES = [
    ("[extract]\nsize = 1.5", "size"),
    ("[extract]\nsize = true", "size"),
    ("[extract]\nsize = 0", "size"),
    ("[extract]\nsize = [1, 2]", "size"),
    ("[extract]\nbatch_size = 'many'", "batch_size"),
    ("[extract]\nprecision = 'fp17'", "precision"),
    ("[extract]\nquiet = 'maybe'", "quiet"),
    ("[extract]\nquiet = 1", "quiet"),
    ("[extract]\nbackbone = true", "backbone"),
    ("[extract]\nbackbone = {name = 'pixels'}", "backbone"),
    ("[extract]\nbackbone = 2020-01-01", "backbone"),
    ("[fit.logreg]\nc = 'abc'", "c"),
    ("[fit.logreg]\nc = [0.1, 'x']", "c"),
    ("[fit.logreg]\nc = [[0.1]]", "c"),
    ("[fit.dense]\ndropout = 'half'", "dropout"),
]


@pytest.mark.parametrize(("text", "key"), VALUES, ids=[text for text, _ in VALUES])
def test_a_value_is_checked_as_that_of_a_flag_whatever_command_runs(
    configured: Shell, text: str, key: str
) -> None:
    write(text)
    configured("runs", "ls", code=2)
    assert f"probe.toml: the value of {key} cannot be used" in configured.error


VARIABLES = [
    ("PROBE_FIT_C", "5", "PROBE_FIT_LOGREG_C"),
    ("PROBE_FIT_LOGREG_CC", "5", "PROBE_FIT_LOGREG_C"),
    ("PROBE_HOEM", "x", "PROBE_HOME"),
    ("PROBE_DEBUGG", "1", "PROBE_DEBUG"),
    ("PROBE_EXTRACT_BATCHSIZE", "5", "PROBE_EXTRACT_BATCH_SIZE"),
    ("PROBE_EXTRACTT_BATCH_SIZE", "5", "PROBE_EXTRACT_BATCH_SIZE"),
    ("PROBE_QQQQ", "", "unset PROBE_QQQQ"),
    ("PROBE_EXTRACT_SIZE", "0", "size"),
    ("PROBE_EXTRACT_QUIET", "maybe", "quiet"),
]


@pytest.mark.parametrize(("name", "value", "near"), VARIABLES, ids=[name for name, _, _ in VARIABLES])
def test_an_unknown_variable_or_a_wrong_value_is_wrong_use(
    configured: Shell, monkeypatch: pytest.MonkeyPatch, name: str, value: str, near: str
) -> None:
    monkeypatch.setenv(name, value)
    configured("runs", "ls", code=2)
    assert name in configured.error
    assert near in configured.error


def test_what_applies_is_said_and_counts(configured: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[fit.logreg]\nc = 1\nrefit = false\n[fit.knn]\nk = 3\n")
    monkeypatch.setenv("PROBE_FIT_LOGREG_REPEATS", "7")
    result = json.loads(configured("fit", "logreg", "--json"))
    assert result["options"]["c"] == [1.0]
    assert result["refit"] is False
    assert configured.error.splitlines()[:3] == [
        "from probe.toml: fit.logreg c = 1",
        "from probe.toml: fit.logreg refit = false",
        'from PROBE_FIT_LOGREG_REPEATS: fit.logreg repeats = "7"',
    ]
    result = json.loads(configured("fit", "logreg", "--json", "--c", "2", "--refit"))
    assert result["options"]["c"] == [2.0]
    assert result["refit"] is True
    assert "probe.toml" not in configured.error
    configured("fit", "logreg", "--quiet")
    assert "from probe" not in configured.error


def test_quiet_in_the_file_silences_what_is_said(configured: Shell) -> None:
    write("[fit.logreg]\nquiet = true\nc = 1\n")
    configured("fit", "logreg")
    assert "from probe" not in configured.error
    write("[fit.logreg]\nquiet = false\nc = 1\n")
    configured("fit", "logreg")
    assert "from probe.toml: fit.logreg c = 1" in configured.error


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('home = "there"\n[runs.ls]\njson = true\n', "runs ls"),
        ('[fit.logreg]\nquiet = true\ndask = "tcp://192.0.2.1:1"\n', "fit logreg --jobs x"),
        ('[extract]\nquiet = true\nfrom = "/nowhere"\n', "extract --backbone pixels cub200"),
        ("[extract]\nquiet = true\nfollow_links = true\n", "extract --backbone pixels /nowhere --quiet"),
        ('[fit.knn]\nquiet = true\nlog = "tensorboard:/nowhere"\n', "fit knn --k x"),
        ('[extract]\nbackbone = "/nowhere.keras"\n', "extract /nowhere --quiet --json"),
        ("[stores.rm]\nyes = true\n", "stores rm nothing"),
        ('[stores.verify]\nstore = "/nowhere"\n', "stores verify --json"),
    ],
)
def test_a_file_that_comes_with_a_folder_reaches_outside_of_it_only_if_that_is_said(
    configured: Shell, capsys: pytest.CaptureFixture[str], text: str, line: str
) -> None:
    from probe.cli import main

    write(text)
    with pytest.raises(SystemExit):
        main(line.split())
    said = [part for part in capsys.readouterr().err.splitlines() if part.startswith("from probe.toml: ")]
    key, value = next(part for part in text.splitlines() if "quiet" not in part and " = " in part).split(
        " = "
    )
    assert any(f"{key} = {value}" in part for part in said), said


def test_lists_and_repeated_options_can_be_written_as_lists(configured: Shell) -> None:
    write("[fit.logreg]\nc = [0.1, 1, 1e2]\n[finetune]\nstop = ['val_loss:5', 'loss:3']\n")
    assert json.loads(configured("fit", "logreg", "--json"))["options"]["c"] == [0.1, 1.0, 100.0]
    write("[extract]\nsplit = [0.5, 0.25, 0.25]\nbackbone = 'pixels'\nsize = 4\n")
    found = json.loads(configured("extract", PHOTOS, "--json"))
    assert found["parts"]["test"] > 1


def test_keys_are_spelt_as_the_flags_are(configured: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[runs.ls]\njson = true\n")
    assert json.loads(configured("runs", "ls")) == []
    write("[extract]\nfrom = '/nowhere'\nbackbone = 'pixels'\n")
    configured("extract", "cub200", code=2)
    assert "there is nothing at /nowhere" in configured.error
    write("")
    monkeypatch.setenv("PROBE_EXTRACT_FROM", "/nowhere")
    configured("extract", "--backbone", "pixels", "cub200", code=2)
    assert "there is nothing at /nowhere" in configured.error


def test_the_home_can_be_set_in_the_file_and_the_environment(
    configured: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probe.cli import run

    write('home = "there"\n')
    assert run(["runs", "ls"]) == 0
    out, err = capsys.readouterr()
    assert f"no run in {Path('there').resolve() / 'runs'}" in out
    assert 'from probe.toml: home = "there"' in err
    monkeypatch.setenv("PROBE_HOME", "elsewhere")
    assert run(["runs", "ls"]) == 0
    out, err = capsys.readouterr()
    assert f"no run in {Path('elsewhere').resolve() / 'runs'}" in out
    assert err == ""


def test_help_is_there_whatever_the_file_says(configured: Shell) -> None:
    write("this is = not [ toml")
    assert "Usage" in configured("--help")
    assert "[default: 1.0" not in configured("fit", "logreg", "--help")
    write("fit = 3\n")
    assert "Usage" in configured("fit", "logreg", "--help")
    assert "Usage" in configured("fit", "--help")


def test_an_empty_variable_sets_nothing(configured: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_FIT_CENTROID_QUIET", "")
    configured("fit", "centroid")
    assert "PROBE_FIT" not in configured.error


def test_errors_are_json_too_where_a_setting_asks_for_it(
    configured: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> object:
        return json.loads(configured.error.splitlines()[-1])["error"]["problem"]

    write("[runs.show]\njson = true")
    configured("runs", "show", "nothing", code=2)
    assert "no run called 'nothing'" in str(told())
    configured("runs", "rm", "nothing", code=2)
    assert configured.error.startswith("probe: ")
    monkeypatch.setenv("PROBE_FIT_KNN_JSON", "1")
    configured("fit", "knn", "--nope", code=2)
    assert "--nope" in str(told())
