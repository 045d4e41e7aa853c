"""What features cost that are stored as float32, as float16 and in 8 bits with a scale for every vector.

The bundled sample of Fashion-MNIST (2,000 pictures to train, 500 to choose, 1,000 to test) through
EfficientNet-Lite0 with its published weights: pooled features for ``logreg`` and ``knn``, the last map as
places for ``attentive``, which is trained with three seeds. For every type the megabytes, the worst rounding
of a vector, the accuracy on the test part, and how many test pictures get another class than from float32.
"""

from __future__ import annotations

import tempfile
from typing import Any

import probe
from bench.common import machine, print_table, write_results
from probe.runs import Run

DTYPES = ("float32", "float16", "int8")
POOLED, PLACES = "avg_pool", "block5:map"
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "logreg": (POOLED, {}),
    "knn": (POOLED, {}),
    "attentive": (PLACES, {"seeds": 3}),
}
SIDE, QUICK_SIDE = 128, 64


def main(quick: bool = False) -> None:
    facts, rows = machine(), []
    with tempfile.TemporaryDirectory() as folder:
        w = probe.Workspace(folder, quiet=True)
        whole: dict[str, Run] = {}
        for dtype in DTYPES:
            store = w.extract(
                "fashion-sample",
                backbone="efficientnet-lite0",
                size=QUICK_SIDE if quick else SIDE,
                outputs=(POOLED, PLACES),
                store_dtype=dtype,
            )
            for head, (output, options) in HEADS.items():
                run = w.fit(head, store, output=(output,), **options)
                whole.setdefault(head, run)
                layout = store.manifest.layout
                rows.append(
                    {
                        "head": head,
                        "output": output,
                        "stored": dtype,
                        "megabytes": round(layout.rows * layout.row_bytes(output) / 1e6, 2),
                        "worst_rounding": store.manifest.facts.get("rounding"),
                        "accuracy": run.test.accuracy if run.test else None,
                        "other_class": _differing(run, whole[head]),
                    }
                )
                print(rows[-1], flush=True)
    print_table("features of 3,500 pictures by what they are stored in", rows)
    write_results("stored", rows, facts)


def _differing(run: Run, other: Run) -> int:
    """Test pictures that two runs give different classes."""
    return int((run.predictions.predicted != other.predictions.predicted).sum())
