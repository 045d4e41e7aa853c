"""Figures of a training in the files that TensorBoard reads; TensorBoard itself need not be installed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path


def write_scalars(folder: Path, step: int, figures: Mapping[str, float]) -> None:
    """Add an event file with the figures of one step; TensorBoard reads all files of a folder as one run."""
    from probe.tensorflow_setup import tf

    # tf.summary wants the tensorboard package; an event file is but a TFRecord file of Event messages.
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    values = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
    events = (
        tf.compat.v1.Event(wall_time=now, file_version="brain.Event:2"),
        tf.compat.v1.Event(wall_time=now, step=step, summary=tf.compat.v1.Summary(value=values)),
    )
    with tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{now:.6f}.{step:05d}")) as writer:
        for event in events:
            writer.write(event.SerializeToString())
