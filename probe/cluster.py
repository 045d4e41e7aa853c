"""An existing Dask cluster (``pip install 'probe[dask]'``), for whatever runs in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from probe.errors import ProbeError, UsageError
from probe.progress import Progress

CONNECT_S = 15


def connect(address: str, *, progress: bool = False) -> Any:
    """A `distributed.Client` of the scheduler at `address` (``tcp://host:port``) with at least one worker.

    One that does not answer is waited for, `CONNECT_S`; `progress` says so on stderr.
    UsageError when distributed is not installed or nothing answers, ProbeError when there are no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("--dask needs dask.distributed", hint="pip install 'probe[dask]'") from error
    try:
        with Progress(f"wait for the scheduler at {address}", shown=progress):
            client = Client(address, timeout=CONNECT_S)
    # Of another program's answer the first bytes are taken for a length: memory that nobody has.
    except (OSError, TimeoutError, ValueError, MemoryError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {address}", found=str(error), hint="dask scheduler; dask worker"
        ) from error
    if not worker_count(client):
        client.close()
        raise ProbeError(f"the Dask cluster at {address} has no workers", hint=f"dask worker {address}")
    return client


def worker_count(client: Any) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def joblib_on(address: str | None, *, progress: bool = False) -> Iterator[None]:
    """Send joblib's work inside to the cluster at `address`; without one it stays on this machine."""
    if address is None:
        yield
        return
    from joblib import parallel_config

    with connect(address, progress=progress), parallel_config(backend="dask"):
        yield
