"""The network that a run trained and keeps, which must still be the one that was scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from probe.errors import WeightsError
from probe.hashing import file_hash
from probe.runs.record import BASELINE, FINE_TUNED
from probe.runs.run import Run
from probe.whole import refuse_link

NETWORK_FILES: Mapping[str, str] = {FINE_TUNED: "network.keras", BASELINE: "model.keras"}
"""Kind of run -> the file its network is kept in; the other kinds keep none."""


def keeps_network(run: Run) -> bool:
    """Whether it is a run of `probe finetune` or `probe baseline run`."""
    return run.record.kind in NETWORK_FILES


def network_file(run: Run) -> Path:
    """Where the network of such a run lies, its content checked against the recorded hash.

    A run written before hashes were recorded is taken as it is. WeightsError when the file is missing or has
    changed.
    """
    path = run.path / NETWORK_FILES[run.record.kind]
    if not path.is_file():
        raise WeightsError(f"the network of {run.name} is missing", expected=str(path), hint="train it again")
    recorded = (run.record.files or {}).get(path.name)
    try:
        refuse_link(path)
        found = file_hash(path) if recorded is not None else None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read", found=error.strerror or str(error)) from error
    if found != recorded:
        raise WeightsError(
            f"the network of {run.name} is not the one that was scored",
            expected=f"{path.name} with sha256 {recorded}",
            found=f"sha256 {found}",
            hint="put the file back as it was written, or train it again",
        )
    return path
