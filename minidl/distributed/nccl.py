"""Sums over NCCL, from GPU to GPU, where each rank has one of its own. MPI still carries what lies on the host."""

from __future__ import annotations

from typing import Any

from minidl.backend import Array, array_module, default_module, on_device
from minidl.distributed.communicator import Pending
from minidl.distributed.mpi import MPICommunicator

_TYPES = {"float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64"}


def why_no_nccl(local_size: int) -> str | None:
    """Return None where so many ranks of this machine can sum over NCCL, else the reason."""
    xp = default_module()
    if getattr(xp.cuda, "nccl", None) is None or not getattr(xp.cuda.nccl, "available", False):
        return "this CuPy has no NCCL"
    if xp.cuda.runtime.getDeviceCount() < local_size:
        return f"{local_size} ranks share {xp.cuda.runtime.getDeviceCount()} GPUs; NCCL needs one for each"
    return None


class _Event(Pending):
    """A sum in NCCL's stream: the stream that computes waits for it, the host does not."""

    def __init__(self, event: Any, stream: Any, array: Array) -> None:
        self._event, self._stream, self._array = event, stream, array

    def wait(self) -> None:
        self._stream.wait_event(self._event)


class NCCLCommunicator(MPICommunicator):
    """The ranks of an MPI communicator, their device arrays over NCCL in a stream of its own.

    Parameters
    ----------
    over : MPICommunicator
        Carries NCCL's identifier, and all that is no device array. The current device is this rank's.
    """

    def __init__(self, over: MPICommunicator) -> None:
        vars(self).update(vars(over))
        self._cupy = default_module()
        nccl = self._cupy.cuda.nccl
        identifier = over.broadcast(nccl.get_unique_id() if over.rank == 0 else None)
        self._nccl, self._ranks = nccl, nccl.NcclCommunicator(over.size, identifier, over.rank)
        self._stream = self._cupy.cuda.Stream(non_blocking=True)

    def start_total(self, array: Array) -> Pending:
        """Begin to replace an array by its sum over the ranks, in place, after all that computes it."""
        if not on_device(array):
            return super().start_total(array)
        self._count(array.nbytes)
        computing = self._cupy.cuda.get_current_stream()
        self._stream.wait_event(computing.record())
        where = array.data.ptr
        self._ranks.allReduce(where, where, array.size, self._type(array), self._nccl.NCCL_SUM, self._stream.ptr)
        return _Event(self._stream.record(), computing, array)

    def total(self, *arrays: Any) -> tuple[Any, ...]:
        """Return each array, or number, summed over the ranks, in float64."""
        if not any(map(on_device, arrays)):
            return super().total(*arrays)
        flat = self._row(arrays)
        self.start_total(flat).wait()
        return _cut_device(flat, arrays)

    def each(self, *arrays: Any) -> tuple[Array, ...]:
        """Return each array, or number, of all ranks in float64: (size, ...)."""
        if not any(map(on_device, arrays)):
            return super().each(*arrays)
        flat = self._row(arrays)
        self._count(flat.nbytes)
        found = self._cupy.empty((self.size, flat.size), "float64")
        computing = self._cupy.cuda.get_current_stream()
        self._ranks.allGather(flat.data.ptr, found.data.ptr, flat.size, self._type(flat), computing.ptr)
        return _cut_device(found, arrays)

    def _row(self, arrays: tuple[Any, ...]) -> Array:
        xp = array_module(*filter(on_device, arrays))
        rows = [each if on_device(each) else xp.asarray(each, dtype="float64") for each in arrays]
        return xp.concatenate([row.astype("float64").reshape(-1) for row in rows])

    def _type(self, array: Array) -> int:
        return int(getattr(self._nccl, _TYPES[str(array.dtype)]))


def _cut_device(flat: Array, arrays: tuple[Any, ...]) -> tuple[Array, ...]:
    found, start = [], 0
    for array in arrays:
        shape, size = getattr(array, "shape", ()), getattr(array, "size", 1)
        found.append(flat[..., start : start + size].reshape(flat.shape[:-1] + shape))
        start += size
    return tuple(found)
