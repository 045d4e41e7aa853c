"""Runs in MLflow and TensorBoard, read back by their own clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow import make_ndarray

from probe.errors import ProbeError, UsageError
from tests.reported import Reported, make_reported
from tests.shell import Shell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return make_reported(tmp_path_factory.mktemp("tracking"))


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where MLflow keeps files; it asks for this consent, as it prefers a database."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def client_of(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_mlflow_has_the_figures_the_choice_and_the_record(made: Reported, uri: str) -> None:
    made.space.log(made.first, f"mlflow:{uri}")
    client = client_of(uri)
    (experiment,) = (found for found in client.search_experiments() if found.name == "probe pictures")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.run_name == made.first.name
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["test/accuracy"] == pytest.approx(made.first.test.accuracy)
    assert logged.data.params["chosen.c"] == str(made.first.record.chosen["c"])
    assert [found.path for found in client.list_artifacts(logged.info.run_id)] == ["result.json"]


def test_a_fit_is_logged_by_flag_to_both(made: Reported, uri: str, shell: Shell, tmp_path: Path) -> None:
    shell.home = made.space.home
    run = shell.json("fit", "centroid", "--log", f"tensorboard:{tmp_path / 'tb'}", "--log", f"mlflow:{uri}")
    events = EventAccumulator(str(tmp_path / "tb" / run["run"])).Reload()
    (event,) = events.Tensors("test/accuracy")
    assert float(make_ndarray(event.tensor_proto)) == pytest.approx(run["test"]["accuracy"])
    assert client_of(uri).search_experiments()


@pytest.mark.parametrize("target", ["wandb", "tensorboard", "tensorboard:", "mlflo:x"])
def test_what_is_no_tracker_is_said_before_any_work(made: Reported, shell: Shell, target: str) -> None:
    shell.home = made.space.home
    before = len(made.space.runs)
    shell("fit", "majority", "--log", target, code=2)
    assert "no such tracker" in shell.error
    assert len(made.space.runs) == before


def test_a_tracker_that_cannot_be_reached_does_not_cost_the_run(made: Reported, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ProbeError, match="is kept, but could not be logged"):
        made.space.log(made.first, f"tensorboard:{tmp_path / 'file'}")
    with pytest.raises(UsageError, match="no such tracker"):
        made.space.log(made.first, "nowhere")


def test_every_cell_of_a_sweep_is_logged_with_its_epochs(
    made: Reported, uri: str, shell: Shell, tmp_path: Path
) -> None:
    grid = ["--set", "batch_size=8,16", "--epochs", "1", "--data", made.pictures, "--limit", "40"]
    grid += ["--labels", made.pictures.parent / "labels.csv", "--log", f"tensorboard:{tmp_path / 'tb'}"]
    found = shell.json("sweep", "scenes15/small", *grid, "--log", f"mlflow:{uri}")
    folders = sorted(path.name for path in (tmp_path / "tb").iterdir())
    assert folders == [f"{found['sweep']} batch_size={size} seed 0" for size in (16, 8)]
    events = EventAccumulator(str(tmp_path / "tb" / folders[1])).Reload()
    (epoch,) = events.Tensors("epoch/val_accuracy")
    assert epoch.step == 1
    client = client_of(uri)
    logged = client.search_runs([found.experiment_id for found in client.search_experiments()])
    accuracies = {run.data.params["setting"]: run.data.metrics["test/accuracy"] for run in logged}
    assert accuracies == {row["setting"]: pytest.approx(row["test_accuracy"]) for row in found["rows"]}


def test_a_reproduction_logs_the_runs_that_its_verdicts_rest_on(shell: Shell, tmp_path: Path) -> None:
    what = ["reproduce", "fashion-mnist/knn-1", "--quick", "--data-map", "fashion-mnist=fashion-sample"]
    shell(*what, "--log", "tensorboard", code=2)
    assert "no such tracker" in shell.error
    (row,) = shell.json(*what, "--log", f"tensorboard:{tmp_path / 'tb'}")["rows"]
    events = EventAccumulator(str(tmp_path / "tb" / row["run"])).Reload()
    assert "test/accuracy" in events.Tags()["tensors"]
