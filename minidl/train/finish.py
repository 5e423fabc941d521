"""The end of a run: its curves."""

from collections.abc import Callable
from typing import Any

from .record import RunFolder, read_losses


def draw(
    folder: RunFolder, history: list[dict[str, Any]], plan: dict[str, Any], title: str, warn: Callable[[str], None]
) -> None:
    """Draw the curves; where that fails, the run is not the worse for it."""
    try:
        from . import plots

        losses = read_losses(folder.losses_file) if folder.losses_file.exists() else []
        plots.draw_run(history, losses, plan, title, folder.curves_file)
    except Exception as error:  # of matplotlib, of what it finds of fonts and settings, or of the disk
        what = " ".join(f"{type(error).__name__}: {error}".split())
        warn(f"{folder.curves_file} could not be drawn ({what}); the run itself is whole")
