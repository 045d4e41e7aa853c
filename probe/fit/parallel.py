"""The predictions of one run from several local processes, in the order of the pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from probe.config import Home
from probe.errors import FitError
from probe.fit.predict import BATCH, Inputs, Prediction, Predictor, load_predictor, predict_with
from probe.runs import Run
from probe.workers import process_pool

LARGEST_PART = 8 * BATCH
"""Pictures a process is given at a time: decoding runs ahead of the network within them."""
AHEAD = 2
"""Parts a process that are computed or waiting at the same time: what bounds memory."""


def predict_in_processes(run: Run, home: Home, inputs: Inputs, processes: int) -> Iterator[Prediction]:
    """What `predict_inputs` gives, bit for bit, from processes with a network each.

    Each process has its own share of the processors and GPUs (`probe.workers`). FitError when one dies.
    """
    parts = _parts(inputs, processes)
    processes = min(processes, len(parts))
    waiting = iter(parts)
    pending: deque[Future[list[Prediction]]] = deque()
    with process_pool(processes) as pool:
        try:
            for part in islice(waiting, AHEAD * processes):
                pending.append(pool.submit(_predict_part, run, home, part))
            while pending:
                found = pending.popleft().result()
                for part in islice(waiting, 1):
                    pending.append(pool.submit(_predict_part, run, home, part))
                yield from found
        except BrokenProcessPool as error:
            raise FitError(
                "a process died while predicting, perhaps for want of memory", hint="use fewer --jobs"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _parts(inputs: Inputs, processes: int) -> list[Inputs]:
    """Consecutive pictures in whole batches, so that every batch is one that a single process has too."""
    batches = -(-len(inputs.files) // BATCH)
    size = min(LARGEST_PART, BATCH * -(-batches // processes))
    starts = range(0, len(inputs.files), size)
    return [Inputs(inputs.names[at : at + size], inputs.files[at : at + size]) for at in starts]


def _predict_part(run: Run, home: Home, part: Inputs) -> list[Prediction]:
    return list(predict_with(_ready(run, home), part))


_loaded: dict[str, Predictor] = {}


def _ready(run: Run, home: Home) -> Predictor:
    """The run, loaded once a process."""
    if run.name not in _loaded:
        _loaded[run.name] = load_predictor(run, home)
    return _loaded[run.name]
