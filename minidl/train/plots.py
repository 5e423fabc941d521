"""The curves of a run, and of several runs beside each other."""

import io
import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..arguments import shown
from ..writing import write_atomic
from .record import RunError, read_metrics

NAMED = 24  # lines up to which each mode of each layer is named under the panel


def draw_run(
    history: list[dict[str, Any]], losses: list[dict[str, Any]], plan: dict[str, Any], title: str, path: Path
) -> None:
    """Draw error, loss and (where there are gates) the use of the modes against epochs, as a PNG.

    Parameters
    ----------
    history : list of dict
        Evaluations, as metrics.jsonl holds them.
    losses : list of dict
        The training loss between them, as losses.jsonl holds it.
    plan : dict
        The "plan" of config.json; dotted lines mark its drops of the learning rate.
    title : str
        Above the panels.
    path : Path
        The file to write.
    """
    gates = history[-1].get("gates", {})
    with own_settings():
        _draw_run(history, losses, gates, plan, title, path)


def _draw_run(
    history: list[dict[str, Any]],
    losses: list[dict[str, Any]],
    gates: dict[str, Any],
    plan: dict[str, Any],
    title: str,
    path: Path,
) -> None:
    figure, axes = _figure(3 if gates else 2)
    epochs = [line["epoch"] for line in history]
    error, loss = axes[0], axes[1]

    sources = history[-1]["test_errors"]
    of_all = ", all" if len(sources) > 1 else ""
    for name in sources if of_all else ():
        error.plot(epochs, [line["test_errors"][name] for line in history], "-", lw=1, alpha=0.8, label=name)
    error.plot(epochs, [line["train_error"] for line in history], "k--", lw=1, label=f"training{of_all}")
    error.plot(epochs, [line["test_error"] for line in history], "k-", lw=2, label=f"test{of_all}")
    error.set(title="error", ylabel="%", ylim=(0, None))

    if losses:
        every = losses[0]["step"]
        name = f"training, each {every} updates" if every > 1 else "training, each update"
        loss.plot([line["epoch"] for line in losses], [line["train_loss"] for line in losses], "C0", lw=0.8, label=name)
    loss.plot(epochs, [line["train_loss"] for line in history], "k--", lw=1, label="training")
    loss.plot(epochs, [line["test_loss"] for line in history], "k-", lw=2, label="test")
    loss.set(title="loss", ylabel="nats", ylim=(0, None))

    modes = {layer: max(len(line["gates"][layer]["usage"]) for line in history) for layer in gates}
    each_named = sum(modes.values()) <= NAMED
    for style, layer in zip(itertools.cycle(("-", "--", ":", "-.")), gates):
        for k in range(modes[layer]):
            usages = [line["gates"][layer]["usage"] for line in history]
            usage = [each[k] if k < len(each) else 0.0 for each in usages]
            label = f"layer {layer}, mode {k + 1}" if each_named else None
            if not each_named and layer == max(modes, key=modes.__getitem__):  # the first with the most modes
                label = f"mode {k + 1} of {len(gates)} layers"
            axes[2].plot(epochs, usage, style, color=f"C{k}", label=label)
    if gates:
        axes[2].set(title="mean gate of each mode on the test set", ylim=(0, 1))

    for ax in axes:
        for drop in plan["lr_drops_after_updates"]:
            ax.axvline(drop / plan["updates_per_epoch"], color="grey", ls=":", lw=1)
        _finish(ax, len(history))
    figure.suptitle(title)
    write_atomic(path, _png(figure))


def draw_comparison(runs: Mapping[str, str | os.PathLike[str]], path: str | os.PathLike[str]) -> None:
    """Draw the test error and loss of several runs into one PNG.

    Parameters
    ----------
    runs : {label: folder}
        Folders of runs, as `python -m minidl.train --out` made them.
    path : path
        The file to write.

    Raises
    ------
    TypeError
        If `runs` is no mapping, or a folder no path.
    RunError
        If there are no runs, or one has no evaluation yet.
    """
    if not isinstance(runs, Mapping):
        raise TypeError(f"draw_comparison: runs must be labels with folders, got {shown(runs)}; give {{label: folder}}")
    if not runs:
        raise RunError("draw_comparison: there must be a run to draw, got none; give {label: folder}")
    for label, folder in runs.items():
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(
                f"draw_comparison: the run of {label} must be a folder, got {shown(folder)}; give that of its --out"
            )
        if not read_metrics(Path(folder) / "metrics.jsonl"):
            raise RunError(
                f"draw_comparison: {folder} has no metrics.jsonl with an evaluation; give the folder of a run, as "
                "--out named it"
            )
    with own_settings():
        _draw_comparison(runs, Path(path))


def _draw_comparison(runs: Mapping[str, str | os.PathLike[str]], path: Path) -> None:
    figure, axes = _figure(2)
    for i, (label, folder) in enumerate(runs.items()):
        history = read_metrics(Path(folder) / "metrics.jsonl")
        epochs = [line["epoch"] for line in history]
        best = min(line["test_error"] for line in history)
        axes[0].plot(
            epochs, [line["test_error"] for line in history], color=f"C{i}", label=f"{label}: best {best:.2f} %"
        )
        axes[1].plot(
            epochs, [line["train_loss"] for line in history], "--", color=f"C{i}", lw=1, label=f"{label}, training"
        )
        axes[1].plot(epochs, [line["test_loss"] for line in history], "-", color=f"C{i}", label=f"{label}, test")
    axes[0].set(title="test error", ylabel="%")
    axes[1].set(title="loss", ylabel="nats")
    for ax in axes:
        _finish(ax, 2)
    write_atomic(path, _png(figure))


def _figure(columns: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * columns, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _finish(ax: Any, points: int) -> None:
    ax.set_xlabel("epoch")
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False)
    if points == 1:  # a line through one point shows nothing
        for line in ax.lines:
            line.set_marker("o" if len(line.get_xdata()) == 1 else "")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


@contextmanager
def own_settings() -> Iterator[None]:
    """Draw with matplotlib's defaults: neither TeX nor fonts of the user's settings are needed."""
    logger = logging.getLogger("matplotlib")  # which tells of caches that it cannot keep: nothing that a user can mend
    level = logger.level
    logger.setLevel(logging.ERROR)
    backend = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "agg"  # read when matplotlib is imported; no other is used here
    try:
        from matplotlib import style

        with style.context("default"):
            yield
    finally:
        logger.setLevel(level)
        if backend is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = backend
