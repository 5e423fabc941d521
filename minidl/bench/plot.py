"""A bar chart of ratios: one panel per section, one group of bars per row, one colour per batch size or pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from minidl.bench.record import SECTIONS, Record, label
from minidl.train.plots import own_settings

BAR = 0.17  # inches
PANEL = 0.75  # inches of a panel around its bars


@own_settings()
def draw(records: Sequence[Record], path: Path) -> None:
    """Draw all records that have a ratio into one PNG, PDF or SVG.

    Raises
    ------
    ValueError
        If none has, or the file's ending is not a format of matplotlib's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    header, rows = records[0], [record for record in records[1:] if record["ratio"] is not None]
    if not rows:
        raise ValueError("--plot needs ratios, and nothing measured has one; add --against torch")
    colours = {name: f"C{i}" for i, name in enumerate(sorted({_series(record) for record in rows}, key=_order))}
    columns = _balanced([list(panel) for _, panel in groupby(rows, key=lambda record: record["section"])])
    height = 0.6 + max(sum(map(_height, column)) for column in columns)
    figure = Figure(figsize=(6.5 * len(columns), height), layout="constrained")
    FigureCanvasAgg(figure)
    for part, column in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        axes = part.subplots(len(column), 1, squeeze=False, height_ratios=[_height(panel) for panel in column])
        for ax, panel in zip(axes[:, 0], column, strict=True):
            _bars(ax, panel, colours)
    versions = header["versions"]
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    figure.suptitle(f"{header['cpu']}, {header['cores']} cores; NumPy {versions['numpy']}{torch}", fontsize="medium")
    figure.savefig(path, dpi=110)


def _balanced(panels: list[list[Record]]) -> list[list[list[Record]]]:
    """Cut a row of panels into two columns of about the same height, one where there is one panel."""
    if len(panels) == 1:
        return [panels]
    cuts = [(panels[:i], panels[i:]) for i in range(1, len(panels))]
    return list(min(cuts, key=lambda cut: max(sum(map(_height, column)) for column in cut)))


def _height(panel: list[Record]) -> float:
    return PANEL + BAR * len(panel)


def _bars(ax: Any, panel: list[Record], colours: dict[str, str]) -> None:
    """Draw one section; bars of one name lie together, with their quartiles as whiskers."""
    full = [" ".join(filter(None, (record["what"], label(record)))) for record in panel]
    alike = len({record["what"] for record in panel}) == 1  # then the norms alone tell the bars apart
    names = [label(record) for record in panel] if alike and all(map(label, panel)) else full
    y, ticks = 0.0, {}
    for group in dict.fromkeys(names):
        members = [record for record, name in zip(panel, names, strict=True) if name == group]
        ticks[group] = y + (len(members) - 1) / 2
        for record in members:
            ratio, low, high = (record[name] for name in ("ratio", "ratio_low", "ratio_high"))
            whisker = [[max(0.0, ratio - low)], [max(0.0, high - ratio)]]
            ax.barh(y, ratio, 0.9, color=colours[_series(record)], xerr=whisker, error_kw={"lw": 0.8, "ecolor": "0.3"})
            ax.annotate(
                f"{ratio:.2f}", (max(ratio, high), y), (3, 0), textcoords="offset points", va="center", fontsize=6
            )
            y += 1
        y += 0.5
    ax.axvline(1, color="0.2", lw=0.8)
    ax.set_yticks(list(ticks.values()), list(ticks), fontsize=7)
    ax.set_ylim(y - 0.5, -1)
    ax.margins(x=0.1)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_title(SECTIONS[panel[0]["section"]], fontsize=8, loc="left")
    ax.set_xlabel(panel[0]["ratio_is"], fontsize=7)
    used = {_series(record) for record in panel} - {""}
    if used:
        handles = [ax.barh([0], [0], color=colours[name], label=name) for name in colours if name in used]
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        ax.legend(handles=handles, ncols=len(handles), fontsize=6, frameon=False, **place)


def _series(record: Record) -> str:
    return record.get("pass") or (f"N={record['batch']}" if record["batch"] else "")


def _order(series: str) -> tuple[bool, int, str]:
    """Batch sizes first, by size."""
    return (False, int(series[2:]), "") if series.startswith("N=") else (True, 0, series)
