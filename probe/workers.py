"""Worker processes on this machine, each with a share of its own of the processors and GPUs.

Whatever runs in parts gets its workers here. A worker takes its share before it does anything else, so what
is imported in it later (TensorFlow, BLAS) sees no more than that. Ctrl-C and a closed terminal are the
business of the process that started them: it ends them.
"""

from __future__ import annotations

import fcntl
import functools
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import IO

from probe.machine import VISIBLE, processors, usable_cpus, visible_gpus
from probe.signals import end_with, held

PREFIX = "probe-workers-"
_held: list[IO[str]] = []
"""In a worker, the lock on its share: the system lets go of it when the process ends, however it ends."""


@contextmanager
def _starting() -> Iterator[None]:
    """Processes that are started in here are left to this one by Ctrl-C and a terminal that is closed."""
    with held():
        # Python's own process that tidies up after the others; when it has started, signals are let through.
        resource_tracker.ensure_running()
    with held():
        yield


@contextmanager
def process_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """`count` processes, spawned since TensorFlow hangs in forked ones."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, ExitStack() as stack:
        shares = (folder, count, _devices(), os.getpid())
        try:
            with _starting():
                pool = stack.enter_context(ProcessPoolExecutor(count, spawn, take_share, shares))
                for _ in range(count):
                    pool.submit(os.getpid)
            yield pool
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


@contextmanager
def joblib_workers(count: int) -> Iterator[None]:
    """Send joblib's work inside to `count` processes; with one it stays in this process, which has it all.

    joblib keeps idle workers for the next time, and they keep their shares.
    """
    if count == 1:
        yield
        return
    from joblib import Parallel, delayed, parallel_config

    shares = (_kept_folder(count).name, count, _devices(), os.getpid())
    with parallel_config("loky", n_jobs=count, initializer=take_share, initargs=shares):
        with _starting():
            Parallel()(delayed(os.getpid)() for _ in range(count))
        yield


@functools.cache
def _kept_folder(count: int) -> tempfile.TemporaryDirectory[str]:
    """Where joblib's workers mark their shares, removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix=PREFIX)


def _devices() -> tuple[str, ...]:
    return tuple(gpu.device for gpu in visible_gpus())


def take_share(folder: str, count: int, devices: Sequence[str], parent: int) -> None:
    """Take one of `count` shares for this process; the place of a worker that has ended is free again.

    Parameters
    ----------
    folder : where the shares are marked as taken.
    devices : GPUs, as ``CUDA_VISIBLE_DEVICES`` calls them, of which each worker gets one, or
        shares one where there are fewer.
    parent : the process that started this one, and with which it ends.
    """
    end_with(parent)
    for number in range(count):
        lock = (Path(folder) / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        _limit_to(number, count, devices)
        return


def _limit_to(number: int, count: int, devices: Sequence[str]) -> None:
    # Read when TensorFlow starts; also where processes cannot be bound to processors.
    threads = str(max(usable_cpus() // count, 1))
    if len(processors()) >= count:
        os.sched_setaffinity(0, processors()[number::count])
        threads = str(usable_cpus())
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", threads)
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", threads)
    if devices:
        os.environ[VISIBLE] = devices[number % len(devices)]
