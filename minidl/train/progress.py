"""What a run says while it goes: lines through `minidl.log`, a progress bar on standard error."""

import sys
from typing import Any

from .. import log
from .running import Running

_NAME = "minidl.train"


class Progress:
    """A progress bar over the images of a run, with loss, error, images/s and time left.

    The bar appears only on a terminal; `quiet` silences both the bar and the lines.

    Parameters
    ----------
    quiet : bool
    speaks : bool
        False silences warnings too: another process of the run says them.
    """

    def __init__(self, quiet: bool, speaks: bool = True) -> None:
        self.quiet, self._speaks = quiet or not speaks, speaks
        quiet = self.quiet
        self.bars = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None

    def start(self, images: int, total: int) -> None:
        """Show the bar, `images` of `total` done."""
        if self.bars:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=images, unit="img", unit_scale=True, dynamic_ncols=True, leave=False)

    def update(self, images: int, running: Running) -> None:
        """Move the bar on by `images`, and show the training loss and error since the last evaluation."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {running.loss:.3f}, error {running.error:.1f} %", refresh=False)
            self._bar.update(images)

    def say(self, line: str) -> None:
        """Say a line above the bar."""
        if self.quiet:
            return
        if self._bar is None:
            log.inform(_NAME, line)
        else:
            self._bar.clear()
            log.inform(_NAME, line)
            self._bar.refresh()

    def warn(self, line: str) -> None:
        """Say a line as a warning, quiet or not."""
        if self._speaks:
            log.warn(_NAME, line)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
