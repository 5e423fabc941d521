"""The end of a run: its summary and its curves."""

from collections.abc import Callable
from typing import Any

from ..extras import missing
from ..layers.base import Layer
from . import describe
from .config import Config
from .record import read_losses
from .run_folder import RunFolder


def summarise(
    history: list[dict[str, Any]], best: dict[str, Any] | None, model: Layer, seconds: float, config: Config
) -> dict[str, Any]:
    """Return what a summary says of the evaluations, the network and the cost."""
    return {
        "last": history[-1] if history else None,
        "best": best,
        "parameters": model.num_params(),
        "seconds": round(seconds, 1),
        "machine": describe.describe_machine(config),
    }


def draw(
    folder: RunFolder, history: list[dict[str, Any]], plan: dict[str, Any], title: str, warn: Callable[[str], None]
) -> None:
    """Draw the curves; if that fails, only warn."""
    try:
        from . import plots

        losses = read_losses(folder.losses_file) if folder.losses_file.exists() else []
        plots.draw_run(history, losses, plan, title, folder.curves_file)
    except Exception as error:  # of matplotlib, of what it finds of fonts and settings, or of the disk
        what = missing(error) or " ".join(f"{type(error).__name__}: {error}".split())
        warn(f"{folder.curves_file} could not be drawn ({what}); the run itself is whole")
