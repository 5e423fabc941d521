"""A table's runs on the ranks of an MPI job: `mpiexec -n 8 python -m mpi4py.futures -m minidl.reproduce table1 ...`.

Rank 0 plans, collects and writes; each other rank trains one run at a time, as a process of its own on its machine. The
results folder must be one that all machines see.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from minidl.distributed.launch import LaunchError, launched
from minidl.files import make_folder
from minidl.reproduce.run_process import BusyError, RunProcess, why_not_started
from minidl.starting import SIGNALS
from minidl.train.config import Config
from minidl.train.signals import StopSignal

POLL = 0.1  # seconds
ORDERS = ".orders"  # a file in a run's folder by which rank 0 reaches the rank that trains there


class AtWork(Protocol):
    """A run that is being trained, here or elsewhere: see `RunProcess`."""

    def status(self) -> int | None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def last_words(self) -> str: ...


Start = Callable[[Config, Path], AtWork]


def workers() -> int:
    """Return how many ranks wait for runs: 0 unless mpi4py.futures was started by mpiexec.

    Raises
    ------
    LaunchError
        If mpiexec started several processes without it: each would be the whole command, into one folder.
    """
    if "mpi4py.futures" not in sys.modules:
        if (size := launched()) > 1:
            raise LaunchError(
                f"{size} processes were started that would all do the same; "
                f"mpiexec -n {size} python -m mpi4py.futures -m minidl.reproduce ... lets rank 0 hand out the runs"
            )
        return 0
    from mpi4py import MPI

    return int(MPI.COMM_WORLD.Get_size()) - 1


@contextmanager
def hired() -> Iterator[Start]:
    """Yield what starts a run: a process here, or on a rank that waits for one."""
    if not workers():
        yield RunProcess
        return
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor(initializer=stay) as pool:
        yield lambda config, path: Elsewhere(pool, config, path)


class Elsewhere:
    """A run on another rank."""

    def __init__(self, pool: Any, config: Config, path: Path) -> None:
        make_folder(path)
        self._orders = path / ORDERS
        self._orders.unlink(missing_ok=True)
        self._future = pool.submit(train, config, path.absolute())

    def status(self) -> int | None:
        """Return the exit status; None while it runs."""
        return int(self._future.result()[0]) if self._future.done() else None

    def stop(self) -> None:
        """Ask it to save and leave."""
        self._orders.write_text("stop")

    def kill(self) -> None:
        """End it at once; what it saved before is whole."""
        self._orders.write_text("kill")
        self._future.cancel()

    def last_words(self) -> str:
        """Return why it failed."""
        return str(self._future.result()[1])


def stay() -> None:
    """Let a rank outlive the signals that stop a job: what it trains has to save first."""
    for signum in SIGNALS:
        signal.signal(signum, lambda signum, frame: None)


def train(config: Config, path: Path) -> tuple[int, str]:
    """Train a run in a process of this machine; return its exit status and, where it failed, why.

    A signal to this rank, or an order of rank 0, stops it.
    """
    orders, stopping = path / ORDERS, False
    try:
        child = RunProcess(config, path)
    except (BusyError, OSError) as error:
        return 1, why_not_started(error)
    try:
        with StopSignal() as stop:
            while (status := child.status()) is None:
                order = orders.read_text() if orders.exists() else ""
                if order == "kill":
                    child.kill()
                elif not stopping and (order or stop.received is not None):
                    stopping = True
                    child.stop()
                time.sleep(POLL)
    finally:
        child.kill()
        orders.unlink(missing_ok=True)
    return status, "" if status == 0 else child.last_words()
