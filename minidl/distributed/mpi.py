"""The processes that mpiexec started, over MPI: host arrays as they are, a GPU's through the host."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from minidl.backend import Array, on_device, on_gpu, to_device, to_host
from minidl.distributed.communicator import Communicator, Pending


class _Request(Pending):
    """A sum that MPI forms; `copy` is its memory on the host where `array` lies on a device."""

    def __init__(self, request: Any, array: Array, copy: np.ndarray | None) -> None:
        self._request, self._array, self._copy = request, array, copy

    def wait(self) -> None:
        self._request.Wait()
        if self._copy is not None:
            self._array[...] = to_device(self._copy, like=self._array)

    def go_on(self) -> None:
        self._request.Test()


class MPICommunicator(Communicator):
    """The ranks of an mpi4py communicator.

    Parameters
    ----------
    world : mpi4py.MPI.Intracomm
        Used for nothing else: its messages would get among these.
    """

    def __init__(self, world: Any) -> None:
        from mpi4py import MPI

        self._mpi, self._world, self._last = MPI, world, world.Dup()
        self._together = False
        self.rank, self.size = world.Get_rank(), world.Get_size()
        here = world.Split_type(MPI.COMM_TYPE_SHARED, key=self.rank)
        self.local_rank, self.local_size = here.Get_rank(), here.Get_size()
        here.Free()

    def on_device(self) -> Communicator:
        """Return one over NCCL where each rank of this machine, and of the others, has a GPU of its own."""
        from minidl.distributed.nccl import NCCLCommunicator, why_no_nccl

        if not on_gpu() or self.largest(int(why_no_nccl(self.local_size) is not None)):
            return self
        return NCCLCommunicator(self)

    def start_total(self, array: Array) -> Pending:
        self._count(array.nbytes)
        copy = np.array(to_host(array)) if on_device(array) else None
        request = self._world.Iallreduce(self._mpi.IN_PLACE, array if copy is None else copy)
        return _Request(request, array, copy)

    def total(self, *arrays: Any) -> tuple[Any, ...]:
        flat = _flat(arrays)
        self._count(flat.nbytes)
        self._world.Allreduce(self._mpi.IN_PLACE, flat)
        return _cut(flat, arrays)

    def each(self, *arrays: Any) -> tuple[Array, ...]:
        flat = _flat(arrays)
        self._count(flat.nbytes)
        found = np.empty((self.size, flat.size))
        self._world.Allgather(flat, found)
        return _cut(found, arrays)

    def largest(self, number: int) -> int:
        return int(self._world.allreduce(number, op=self._mpi.MAX))

    def broadcast(self, thing: Any) -> Any:
        return self._world.bcast(thing)

    def gather(self, thing: Any) -> list[Any] | None:
        found: list[Any] | None = self._world.gather(thing)
        return found

    def barrier(self) -> None:
        self._world.Barrier()

    def farewell(self, seconds: float) -> bool:
        all_here, until = self._last.Ibarrier(), time.monotonic() + seconds
        while not all_here.Test() and time.monotonic() < until:
            time.sleep(0.01)
        self._together = bool(all_here.Test())
        return self._together

    def close(self) -> None:
        if self._together:
            self._last.Barrier()  # nobody ends, and so ends the others, before all is said
            self._mpi.Finalize()

    def _count(self, size: int) -> None:
        self.messages += 1
        self.bytes += size


def _flat(arrays: tuple[Any, ...]) -> np.ndarray:
    """Return the values of arrays and numbers in one row, float64, on the host."""
    return np.concatenate([np.asarray(to_host(array), np.float64).ravel() for array in arrays])


def _cut(flat: np.ndarray, arrays: tuple[Any, ...]) -> tuple[Array, ...]:
    """Return rows (..., values) cut into the shapes of `arrays`, each in its library."""
    like = next(filter(on_device, arrays), None)
    found, start = [], 0
    for array in arrays:
        shape, size = getattr(array, "shape", ()), getattr(array, "size", 1)
        part = flat[..., start : start + size].reshape(flat.shape[:-1] + shape)
        found.append(part if like is None else to_device(part, like=like))
        start += size
    return tuple(found)
