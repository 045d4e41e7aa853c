"""A run on new images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.notebook import table_html
from probe.progress import Progress
from probe.runs import Run
from probe.table import Table
from probe.workspace.context import Context
from probe.workspace.keywords import at_least

if TYPE_CHECKING:
    from probe.fit import Prediction


@dataclass(frozen=True, repr=False)
class Predicted(Sequence["Prediction"]):
    """What a run says about M images, in the order in which they were given.

    Attributes
    ----------
    run : its name.
    classes : C names, the columns of `probabilities`.
    predictions : one an image.
    """

    run: str
    classes: tuple[str, ...]
    predictions: tuple[Prediction, ...]

    @property
    def ids(self) -> list[str]:
        """The path of each image as it was given."""
        return [prediction.id for prediction in self.predictions]

    @property
    def labels(self) -> list[str | None]:
        """The most probable class of each image, None where it could not be read."""
        return [prediction.label for prediction in self.predictions]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(M, C) float32, a row of NaN where the image could not be read."""
        rows = np.full((len(self.predictions), len(self.classes)), np.nan, np.float32)
        for row, prediction in zip(rows, self.predictions, strict=True):
            if prediction.probabilities is not None:
                row[:] = prediction.probabilities
        return rows

    @property
    def problems(self) -> dict[str, str]:
        """Image that could not be read -> why."""
        return {found.id: found.problem for found in self.predictions if found.problem is not None}

    def __len__(self) -> int:
        return len(self.predictions)

    @overload
    def __getitem__(self, place: int) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, place: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.predictions[place]

    def table(self) -> Table:
        """A row an image: class and probability, or why it could not be read."""
        return Table(
            {
                "image": found.id,
                "class": found.label if found.problem is None else f"not read: {found.problem}",
                "probability": found.probability,
            }
            for found in self.predictions
        )

    def __repr__(self) -> str:
        return f"<{len(self):,} predictions of {self.run}>\n{self.table()}"

    def _repr_html_(self) -> str:
        return table_html(f"{len(self):,} predictions of {self.run}", self.table())


def predict(
    context: Context, run: Run, paths: Sequence[str | Path], *, follow_links: bool, jobs: int
) -> Predicted:
    """All predictions at once; as `predict_each`."""
    names = [str(path) for path in paths]
    found = tuple(predict_each(context, run, names, follow_links=follow_links, jobs=jobs))
    return Predicted(run.name, run.record.classes, found)


def predict_each(
    context: Context,
    run: Run,
    paths: Sequence[str],
    *,
    follow_links: bool = False,
    jobs: int = 1,
    stdin: BinaryIO | None = None,
) -> Iterator[Prediction]:
    """Predict image files, folders of them and lists, one after the other; images are named as given.

    The inputs are looked for and the network is loaded before this returns. UsageError where there is no
    image or no process, WeightsError when the weights here are not those of the run, FitError for a run that
    cannot see images.
    """
    from probe.fit import gather, predict_in_processes, predict_inputs

    at_least(1, jobs=jobs)

    if "" in paths:
        raise UsageError("one of the paths is empty", hint=". is the folder you are in")
    inputs = gather([Path(path) for path in paths], stdin=stdin, follow_links=follow_links)
    for line in inputs.notes:
        context.say(line)
    if jobs > 1:
        predictions = predict_in_processes(run, context.home, inputs, jobs)
    else:
        predictions = predict_inputs(run, context.home, inputs)
    with Progress(f"load {run.name}", shown=context.progress):
        first = list(islice(predictions, 1))  # the network is loaded before the first of them
    return chain(first, predictions)
