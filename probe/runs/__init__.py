"""Results on disk."""

from probe.errors import RunError
from probe.runs.analysis import analyse, calibrate, scores
from probe.runs.history import course_of
from probe.runs.network import NETWORK_FILES, keeps_network, network_file
from probe.runs.pairing import (
    align,
    compare,
    compare_all,
    compared_on,
    pair_predictions,
    paired,
    pairing_notes,
)
from probe.runs.predictions import Predictions
from probe.runs.record import BASELINE, FINE_TUNED, FIT, Record, Scores
from probe.runs.run import (
    NotKeptError,
    Run,
    expect_free_name,
    find_finished,
    find_run,
    list_runs,
    name_run,
    open_run,
    remove_run,
    run_folder,
    write_run,
)

__all__ = [
    "BASELINE",
    "FINE_TUNED",
    "FIT",
    "NETWORK_FILES",
    "NotKeptError",
    "Predictions",
    "Record",
    "Run",
    "RunError",
    "Scores",
    "align",
    "analyse",
    "calibrate",
    "compare",
    "compare_all",
    "compared_on",
    "course_of",
    "expect_free_name",
    "find_finished",
    "find_run",
    "keeps_network",
    "list_runs",
    "name_run",
    "network_file",
    "open_run",
    "pair_predictions",
    "paired",
    "pairing_notes",
    "remove_run",
    "run_folder",
    "scores",
    "write_run",
]
