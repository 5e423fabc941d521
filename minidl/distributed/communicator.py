"""What travels between the processes of a run, for one process alone: nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from minidl.backend import Array, array_module, on_device

Result = TypeVar("Result")


class Pending:
    """A sum on its way; `wait` before its array is read."""

    def wait(self) -> None:
        """Return when the array holds the sum."""

    def go_on(self) -> None:
        """Let the library move what it can: some libraries send only while they are called."""


class Communicator:
    """The processes of one run, seen from one of them; this class is a process alone.

    Every call but `go_on` of a `Pending` is *collective*: all ranks make it, in the same order. Sums are added up in an
    order that depends on the number of ranks alone, and all ranks get the same bits.

    Attributes
    ----------
    rank, size : int
        Which of how many processes this is.
    local_rank, local_size : int
        The same, among those of this machine.
    messages, bytes : int
        The collective calls made so far that carry arrays, and the bytes that this rank gave to them.
    """

    rank, size, local_rank, local_size = 0, 1, 0, 1
    messages, bytes = 0, 0

    def on_device(self) -> Communicator:
        """Return the communicator for arrays of the default backend."""
        return self

    def start_total(self, array: Array) -> Pending:
        """Begin to replace a contiguous array of float32 or float64 by its sum over the ranks, in place."""
        return Pending()

    def total(self, *arrays: Any) -> tuple[Any, ...]:
        """Return each array, or number, summed over the ranks, in float64.

        Examples
        --------
        >>> ALONE.total(2.0)
        (2.0,)
        """
        return arrays

    def each(self, *arrays: Any) -> tuple[Array, ...]:
        """Return each array, or number, of all ranks in float64: (size, ...), in the order of the ranks."""
        xp = array_module(*filter(on_device, arrays))
        return tuple(xp.asarray(array, dtype="float64")[None] for array in arrays)

    def largest(self, number: int) -> int:
        """Return the largest of the ranks' whole numbers."""
        return number

    def broadcast(self, thing: Any) -> Any:
        """Return rank 0's object."""
        return thing

    def of_first(self, function: Callable[[], Result]) -> Result:
        """Return function() of rank 0, which alone calls it; what it raises, all ranks raise."""
        result: Any = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                result = function()
            except Exception as raised:
                error = raised
        if self.size > 1:
            result, error = self.broadcast((result, error))
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def gather(self, thing: Any) -> list[Any] | None:
        """Return the objects of all ranks on rank 0, None on the others."""
        return [thing]

    def barrier(self) -> None:
        """Return when all ranks are here."""

    def farewell(self, seconds: float) -> bool:
        """Return whether all ranks have called this within that time: then the job may end in good order."""
        return True

    def close(self) -> None:
        """Leave the job: in good order, where all ranks said farewell."""

    @contextmanager
    def first_on_each_machine(self) -> Iterator[None]:
        """Let one process of each machine go through the ``with`` block before the others: it fills the caches."""
        if self.local_rank != 0:
            self.barrier()
        yield
        if self.local_rank == 0:
            self.barrier()

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: a copy of a network talks to the same ranks."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"


ALONE = Communicator()
