"""``probe points``: images as points for other programs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from probe.errors import UsageError
from tests.reported import CLASSES, Reported, make_reported
from tests.shell import Shell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return make_reported(tmp_path_factory.mktemp("points"))


def test_parquet_has_a_row_an_image_with_what_the_run_said(made: Reported, tmp_path: Path) -> None:
    written = made.space.points(made.first, output=tmp_path / "p.parquet")
    frame = pd.read_parquet(tmp_path / "p.parquet").set_index("id")
    assert written.points == written.pictures == len(frame) == 120
    assert set(frame["label"]) == set(CLASSES)
    assert frame["vector"].map(len).unique().tolist() == [48]
    vectors, rows = made.store.arrays()[0], made.store.index.ids[made.store.rows()]
    np.testing.assert_array_equal(np.stack(frame.loc[rows, "vector"]), vectors.reshape(len(rows), -1))

    said = made.first.predictions
    scored = frame.loc[said.ids]
    assert scored["prediction"].tolist() == [made.first.record.classes[i] for i in said.predicted]
    np.testing.assert_allclose(scored["probability"], said.probabilities.max(1), rtol=1e-6)
    assert frame.drop(index=said.ids)["prediction"].isna().all()

    first = frame.iloc[0]
    assert Image.open(io.BytesIO(first["image"]["bytes"])).size == (96, 72)
    assert first["image"]["path"] == frame.index[0]
    assert np.isfinite(frame[["x", "y"]]).all(axis=None)


def test_a_store_has_no_predictions_and_pictures_may_be_left_out(made: Reported, shell: Shell) -> None:
    shell.home = made.space.home
    file = made.pictures.parent / "store.parquet"
    written = shell.json("points", made.store.name, "--no-images", "-o", file)
    table = pyarrow.parquet.read_table(file)
    assert "image" not in table.column_names == written["columns"]
    assert table["prediction"].null_count == written["points"]
    assert f"embedding-atlas {file}" in written["open_with"]


def test_the_folder_is_one_that_tensorboard_reads(made: Reported, tmp_path: Path) -> None:
    folder = tmp_path / "projector"
    made.space.points(made.first, output=folder)
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    vectors = np.loadtxt(folder / embedding.tensor_path, delimiter="\t")
    lines = (folder / embedding.metadata_path).read_text().splitlines()
    assert vectors.shape == (120, 48)
    assert len(lines) == 121
    assert lines[0].split("\t") == ["id", "label", "split", "prediction"]
    assert {line.split("\t")[1] for line in lines[1:]} == set(CLASSES)
    side = list(embedding.sprite.single_image_dim)
    with Image.open(folder / embedding.sprite.image_path) as sheet:
        assert (sheet.width // side[0]) * (sheet.height // side[1]) >= 120


def test_where_nothing_can_be_written_is_said_before_anything_is_read(made: Reported, tmp_path: Path) -> None:
    (tmp_path / "there.parquet").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for output, says in (
        ("p.csv", "cannot be written to"),
        ("there.parquet", "is there already"),
        ("link", "is there already"),
        ("no/folder.parquet", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=says):
            made.space.points(made.first, output=tmp_path / output)
    assert (tmp_path / "there.parquet").read_text() == "mine"
