"""Loss and error on the training batches since the last evaluation, without waiting for the device at every step."""

import math
from collections.abc import Sequence
from typing import Any

from ..backend import Array, array_module, to_host

READ_EVERY = 16


class DivergedError(RuntimeError):
    """The loss or an array of the model is no longer finite; the message names the step and the cure."""


def numbers(scalars: Sequence[Array]) -> list[float]:
    """Return 0-d arrays of one library as Python's numbers; a device is waited for once.

    >>> import numpy as np
    >>> numbers([np.float32(0.5), np.float32(2)])
    [0.5, 2.0]
    """
    on_device = scalars and hasattr(scalars[0], "get")
    found = to_host(array_module(scalars[0]).stack(scalars)) if on_device else scalars
    return [float(value) for value in found]


class Running:
    """Means over the training batches since the last evaluation.

    Losses stay on the device until `read`; the loss is the mean over all batches, the error that of every 16th batch,
    the first one included.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[int, float, Array]] = []  # (update, lr, loss)
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self._loss, self._batches, self._wrong, self._seen = 0.0, 0, 0, 0

    def add(self, update: int, lr: float, loss: Array, logits: Array, labels: Array) -> bool:
        """Take in one batch, whose loss must be an array of its own; return whether its numbers were read now.

        Raises
        ------
        DivergedError
            If a loss that was read is not finite.
        """
        self._unread.append((update, lr, loss))
        if (self._batches + len(self._unread) - 1) % READ_EVERY:
            return False
        wrong = (logits.argmax(axis=1) != labels).sum()
        self.read()
        self._wrong += int(wrong)
        self._seen += len(labels)
        return True

    def read(self) -> None:
        """Fetch the losses from the device; DivergedError if one is not finite."""
        values = numbers([loss for _, _, loss in self._unread])
        for (update, lr, _), value in zip(self._unread, values, strict=True):
            if not math.isfinite(value):
                raise DivergedError(
                    f"the loss is {value} at update {update} (lr {lr:g}); lower --lr and start anew with another --out"
                )
            self._loss += value
            self._batches += 1
        self._unread.clear()

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
