"""Whether this process is one of several that mpiexec started, and how it leaves when the job has to end."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import zip_longest

from minidl.distributed.communicator import ALONE, Communicator

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # set by MPICH, Intel MPI, Open MPI, MVAPICH
_OF_LAUNCHERS = ("PMI_", "PMIX_", "OMPI_", "MPI_LOCAL", "HYDRA_", "HYDI_", "MV2_")
PATIENCE = 2.0  # seconds that a rank that fails waits for the others to fail too


class LaunchError(RuntimeError):
    """The processes were not started as they have to be; the message is one line that names the cure."""

    exit_status = 1


def communicator(command: str = "minidl.train") -> Communicator:
    """Return this process's communicator: `ALONE` unless it was started by mpiexec with ``python -m mpi4py``.

    Parameters
    ----------
    command : str
        The module that runs, to be named in the cure.

    Raises
    ------
    LaunchError
        If mpiexec started several processes without ``-m mpi4py``: an exception of one would let the others wait for
        ever.
    """
    if "mpi4py.run" not in sys.modules:
        if (size := launched()) > 1:
            install = "" if find_spec("mpi4py") else "pip install 'minidl[mpi]', then "
            raise LaunchError(
                f"{size} processes were started without mpi4py, whose runner ends all when one fails; "
                f"{install}mpiexec -n {size} python -m mpi4py -m {command} ..."
            )
        return ALONE
    from mpi4py import MPI

    if MPI.COMM_WORLD.Get_size() == 1:
        return ALONE
    from minidl.distributed.mpi import MPICommunicator

    return MPICommunicator(MPI.COMM_WORLD.Dup())


def check_arguments(of: Communicator, arguments: Sequence[str]) -> None:
    """Raise LaunchError, on all ranks, unless all were started with the same arguments.

    One that was told something else, such as to print its help, would leave the others to wait for it for ever.
    """
    found = of.gather(list(arguments))

    def check() -> None:
        for rank, theirs in enumerate(found or ()):
            if theirs != list(arguments):
                pairs = enumerate(zip_longest(arguments, theirs))
                first = next(place for place, (mine, other) in pairs if mine != other)
                more = " ".join(theirs[first:]) or "fewer"
                raise LaunchError(
                    f"rank {rank} was started with other arguments than rank 0 ({more:.200}); give all the same"
                )

    of.of_first(check)


def launched() -> int:
    """Return how many processes the launcher says it started; 1 where none did."""
    found = (os.environ.get(name, "") for name in SIZES)
    return max((int(text) for text in found if text.isdecimal()), default=1)


def unlaunched(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what a launcher put there: for a child that is no rank of the job."""
    return {name: value for name, value in environment.items() if not name.startswith(_OF_LAUNCHERS)}


def last_words(of: Communicator) -> str | None:
    """Return what a line that ends the job begins with; None where another rank says it.

    What all ranks run into, such as a wrong argument, rank 0 says. What one rank alone runs into, such as a full disk,
    it says itself, with its number, once it has waited in vain for the others.
    """
    if of.size == 1:
        return ""
    if of.farewell(PATIENCE):
        return "" if of.rank == 0 else None
    return f"rank {of.rank}: " if of.rank else ""


def leave(of: Communicator, status: int) -> int:
    """Return the exit status of a process alone, or 0; a rank that fails ends here, and with it the job."""
    if of.size > 1 and status != 0:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        of.close()
        os._exit(status)
    return status
