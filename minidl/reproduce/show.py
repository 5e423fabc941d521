"""The progress of a set of runs: one bar over all their images on a terminal, plain lines elsewhere."""

import sys
import time
from contextlib import suppress
from typing import Any

from minidl.command_line import say
from minidl.printable import harmless
from minidl.reproduce.provenance import duration


class Show:
    """One progress display for several runs side by side.

    Parameters
    ----------
    images : int
        All that are to be trained on, those of finished runs left out.
    done : int
        Those that interrupted runs had behind them.
    """

    def __init__(self, images: int, done: int) -> None:
        self._images, self._before, self._done = images, done, done
        self._start = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=images, initial=done, unit="img", unit_scale=True, dynamic_ncols=True, leave=False)

    def update(self, done: int, running: list[str]) -> None:
        """Move the bar on to `done` images and name the running runs."""
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(running), refresh=False)
            self._bar.update(done - self._done)
        self._done = done

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is None:
            with suppress(OSError):  # what cannot be printed costs no run
                say(line)
        else:
            self._bar.write(harmless(line))

    def time_left(self) -> str:
        """Return the time that is left at the speed so far, "" while nothing is known of it."""
        new = self._done - self._before
        left = self._images - self._done
        if not new or not left:
            return ""
        return f"; about {duration((time.monotonic() - self._start) * left / new)} left"

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
