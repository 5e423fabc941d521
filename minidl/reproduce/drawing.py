"""A table as a picture: ours beside the paper's in each row, and the errors during training below."""

import io
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.reproduce.results import Cell, Results
from minidl.train.plots import own_settings

OURS, PAPER = "#1f5fa8", "#9a9a9a"
ABREAST = 4  # rows of the table side by side


@own_settings()
def draw_table(results: Results, warnings: list[str], about: Mapping[str, str]) -> bytes:
    """Return a PNG; `about` is written into its metadata too."""
    columns = min(len(results.rows), ABREAST)
    tiers = -(-len(results.rows) // columns)
    figure, axes = panels(2 * tiers, columns, width=6.4, height=3.8)
    pairs = axes.reshape(tiers, 2, columns).swapaxes(1, 2).reshape(-1, 2)
    for ax in pairs[len(results.rows) :].flat:
        ax.remove()
    for (name, row), (above, below) in zip(results.rows.items(), pairs, strict=False):
        _draw_errors(above, list(row.values()))
        above.set(title=name, ylabel="best test error, %")
        for i, cell in enumerate(row.values()):
            _draw_training(below, cell, f"C{i}")
        below.set(xlabel="epoch", ylabel="test error, mean of seeds, %")
        if below.lines:
            below.legend(fontsize="small", frameon=False, ncols=2)
    return to_png(figure, [results.table.title, *warnings], about)


def _draw_errors(ax: Any, cells: list[Cell]) -> None:
    """Mean and deviation of the paper and of ours, and each of our runs as a dot."""
    for i, cell in enumerate(cells):
        if cell.paper is not None:
            mean, std = cell.paper
            ax.errorbar(i - 0.15, mean, std or 0, fmt="s", color=PAPER, capsize=3, label=None if i else "paper")
        found = cell.sample("best")
        if found is not None:
            ax.errorbar(
                i + 0.1, found.mean, found.std or 0, fmt="o", color=OURS, capsize=3, label="minidl" if not i else None
            )
            errors = list(cell.errors("best").values())
            ax.plot(np.full(len(errors), i + 0.25), errors, ".", color=OURS, alpha=0.5, ms=4)
    names = [textwrap.fill(cell.column, 10, break_long_words=False, break_on_hyphens=False) for cell in cells]
    labels = [f"{name}\nseeds: {len(cell.runs)}" for name, cell in zip(names, cells, strict=True)]
    ax.set_xticks(range(len(cells)), labels, fontsize="medium" if len(cells) < 6 else "small")
    ax.set_xlim(-0.5, len(cells) - 0.5)
    ax.legend(fontsize="small", frameon=False)
    ax.grid(axis="y", alpha=0.3)


def _draw_training(ax: Any, cell: Cell, color: str) -> None:
    """The mean over the seeds of the test error after each evaluation."""
    histories = [run.history() for run in cell.runs.values()]
    if not histories:
        return
    epochs = [line["epoch"] for line in histories[0]]
    errors = np.mean([[line[cell.field] for line in history] for history in histories], axis=0)
    ax.plot(epochs, errors, color=color, label=cell.column, marker="o" if len(epochs) == 1 else None)
    ax.grid(alpha=0.3)


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """Return a figure and its axes (rows, columns), without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def to_png(figure: Any, title: list[str], about: Mapping[str, str]) -> bytes:
    """Return the figure with a title, the version below it, and all of `about` in the metadata."""
    room = int(12 * figure.get_figwidth())  # characters per line
    figure.suptitle("\n".join(line for text in title for line in textwrap.wrap(text, room)), fontsize="medium")
    figure.supxlabel(about["reported by"], fontsize="xx-small", color="grey")
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=110, metadata={"Comment": "\n".join(f"{k}: {v}" for k, v in about.items())}
    )
    return buffer.getvalue()
