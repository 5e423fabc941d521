"""Loss and error on the training batches since the last evaluation, without waiting for the device at every step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..backend import Array, array_module, on_device, to_host

READ_EVERY = 16


class NotFiniteError(Exception):
    """The loss or the gradient of an update is not finite."""

    def __init__(self, update: int, loss: float) -> None:
        super().__init__(update, loss)
        self.update, self.loss = update, loss


def numbers(scalars: Sequence[Array]) -> list[float]:
    """Return 0-d arrays of one library as Python's numbers; a device is waited for once.

    >>> import numpy as np
    >>> numbers([np.float32(0.5), np.float32(2)])
    [0.5, 2.0]
    """
    found = to_host(array_module(scalars[0]).stack(scalars)) if scalars and on_device(scalars[0]) else scalars
    return [float(value) for value in found]


class Running:
    """Means over the training batches since the last evaluation.

    Losses stay on the device until `read`; the loss is the mean over all batches, the error that of every 16th batch,
    the first one included.

    Parameters
    ----------
    on_loss : callable, optional
        Called with the number and the loss of each update, in their order, when they have been read.
    total : callable
        Called with counts of a batch; returns them summed over the processes that hold parts of it.
    """

    def __init__(
        self, on_loss: Callable[[int, float], None] | None = None, total: Callable[..., Any] = lambda *counts: counts
    ) -> None:
        self._on_loss, self._total = on_loss, total
        self._unread: list[tuple[int, Array, Array]] = []  # (update, loss, sum of the gradients)
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self._loss, self._batches, self._wrong, self._seen = 0.0, 0, 0, 0

    def add(self, update: int, loss: Array, gradient: Array, logits: Array, labels: Array) -> bool:
        """Take in one batch, whose loss must be an array of its own; return whether its numbers were read now.

        Parameters
        ----------
        update : int
            That the batch belongs to.
        loss : 0-d array
        gradient : 0-d array
            The sum of all gradients.
        logits, labels : (N, K) and (N,)

        Raises
        ------
        NotFiniteError
            If a loss or a gradient that was read is not finite. On the host each is read at once.
        """
        self._unread.append((update, loss, gradient))
        due = (self._batches + len(self._unread) - 1) % READ_EVERY == 0
        if due or not hasattr(loss, "get"):
            self.read()
        if not due:
            return False
        wrong, seen = self._total(int((logits.argmax(axis=1) != labels).sum()), len(labels))
        self._wrong += int(wrong)
        self._seen += int(seen)
        return True

    def read(self) -> None:
        """Fetch the losses from the device; NotFiniteError if one, or a gradient, is not finite."""
        unread, self._unread = self._unread, []
        read = numbers([loss for _, loss, _ in unread] + [gradient for _, _, gradient in unread])
        for (update, _, _), loss, gradient in zip(unread, read[: len(unread)], read[len(unread) :], strict=True):
            if not math.isfinite(loss) or not math.isfinite(gradient):
                raise NotFiniteError(update, loss)
            self._loss += loss
            self._batches += 1
            if self._on_loss is not None:
                self._on_loss(update, loss)

    @property
    def loss(self) -> float | None:
        """The mean loss; None without a batch."""
        return self._loss / self._batches if self._batches else None

    @property
    def error(self) -> float | None:
        """The error in percent; None without a batch."""
        return 100 * self._wrong / self._seen if self._seen else None

    def state(self) -> dict[str, Any]:
        """Return the sums, once all was read."""
        return {"loss": self._loss, "batches": self._batches, "wrong": self._wrong, "seen": self._seen}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the sums that `state` returned."""
        self._loss, self._batches = state["loss"], state["batches"]
        self._wrong, self._seen = state["wrong"], state["seen"]
