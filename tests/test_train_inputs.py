"""Batches of a part: none is too small to be divided."""

from __future__ import annotations

import numpy as np
import pytest

from probe.train.inputs import ArrayInputs, Part, batch_ends, batches


@pytest.mark.parametrize("chunk", [1024, 16])
@pytest.mark.parametrize(
    ("count", "least", "ends"),
    [
        (33, 1, [8, 16, 24, 32, 33]),
        (33, 2, [8, 16, 24, 33]),
        (34, 2, [8, 16, 24, 32, 34]),
        (32, 4, [8, 16, 24, 32]),
        (9, 2, [9]),
        (1, 2, [1]),
    ],
)
def test_a_last_batch_smaller_than_the_devices_joins_the_one_before(
    count: int, least: int, ends: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.train.inputs.CHUNK_ROWS", chunk)
    assert batch_ends(count, 8, least) == ends
    part = Part(np.arange(count, dtype=np.float32)[:, None], np.zeros(count, np.int32))
    found = [inputs.numpy()[:, 0] for inputs, _ in batches(part, 8, least=least)]
    assert np.cumsum([len(batch) for batch in found]).tolist() == ends
    assert np.concatenate(found).tolist() == list(range(count))
    inputs = ArrayInputs(part, None, batch_size=8, seed=0, least=least)
    assert len(list(inputs.training(1))) == inputs.steps == len(ends)
