"""The training loss between evaluations: its mean over every few updates, as losses.jsonl holds it."""

from collections.abc import Callable
from typing import Any

from .run_folder import RunFolder
from .running import READ_EVERY

MOST = 50  # updates to a line, where nothing else is asked for
LINES = 200  # that a run has at least, if it has as many updates


def usual_interval(total: int) -> int:
    """Return the updates to a line for a run of `total` updates: a short run is a curve as well.

    >>> usual_interval(14), usual_interval(3000), usual_interval(22635)
    (1, 15, 50)
    """
    return max(1, min(MOST, total // LINES))


class LossLog:
    """Takes the loss of each update, once it is on the host, and writes one line for every `every` updates.

    Parameters
    ----------
    every : int
    total : int
        The last update, which ends a line too.
    describe : callable
        Called with an update; returns what its line has beside "step" and "train_loss".
    folder : RunFolder or None
        Where losses.jsonl is; None keeps nothing.
    listener : callable, optional
        Called with each line when it is written.

    Attributes
    ----------
    ends : set of int
        The updates that end a line whatever `every` is.
    """

    def __init__(
        self,
        every: int,
        total: int,
        describe: Callable[[int], dict[str, Any]],
        folder: RunFolder | None,
        listener: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.every, self.ends = every, {total}
        self._describe, self._folder, self._listener = describe, folder, listener
        self._sum, self._count = 0.0, 0
        self._lines: list[dict[str, Any]] = []  # not written yet

    def add(self, update: int, loss: float) -> None:
        """Take in the loss of an update."""
        self._sum += loss
        self._count += 1
        if update % self.every == 0 or update in self.ends:
            self._lines.append({"step": update, **self._describe(update), "train_loss": self._sum / self._count})
            self._sum, self._count = 0.0, 0

    def write(self, lasting: bool = False) -> None:
        """Write the lines that are whole; where they are to be `lasting`, they are on the disk when this returns."""
        if self._folder is not None and self._lines:
            self._folder.append_losses(self._lines, lasting)
        lines, self._lines = self._lines, []
        if self._listener is not None:
            for line in lines:
                self._listener(line)

    def write_now_and_then(self, step: int) -> None:
        """Write the lines that are whole, every few updates."""
        if step % READ_EVERY == 0:
            self.write()

    def state(self) -> dict[str, Any]:
        """Return the sums of the line that is not whole yet."""
        return {"loss": self._sum, "updates": self._count}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the sums that `state` returned."""
        self._sum, self._count = state["loss"], state["updates"]
