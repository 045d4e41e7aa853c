"""Results on disk."""

from probe.runs.network import BASELINE, FINE_TUNED, NETWORK_FILES, keeps_network, network_file
from probe.runs.pairing import align, pair_predictions, paired, pairing_notes
from probe.runs.run import (
    NotKeptError,
    Predictions,
    Run,
    RunError,
    find_finished,
    find_run,
    list_runs,
    open_run,
    remove_run,
    run_folder,
    write_run,
)
from probe.runs.scoring import scores

__all__ = [
    "BASELINE",
    "FINE_TUNED",
    "NETWORK_FILES",
    "NotKeptError",
    "Predictions",
    "Run",
    "RunError",
    "align",
    "find_finished",
    "find_run",
    "keeps_network",
    "list_runs",
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
