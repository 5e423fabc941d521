"""Draw the pictures of docs/convolution.md: `python docs/images/convolution_pictures.py` writes them beside itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

HERE = Path(__file__).parent
INK, BLUE, RED, GREEN, PALE = "#222222", "#4477aa", "#cc5544", "#448855", "#dde6f0"


def grid(ax: Any, at: tuple[float, float], rows: int, columns: int, size: float = 0.4, **fill: Any) -> None:
    """Draw a grid of cells whose upper left corner is `at`."""
    x, y = at
    for i in range(rows):
        for j in range(columns):
            place = (x + j * size, y - (i + 1) * size)
            ax.add_patch(Rectangle(place, size, size, lw=0.6, ec=INK, **({"fc": "white"} | fill)))


def frame(ax: Any, at: tuple[float, float], rows: int, columns: int, colour: str, size: float = 0.4) -> None:
    """Draw a thick frame around some cells."""
    ax.add_patch(Rectangle((at[0], at[1] - rows * size), columns * size, rows * size, lw=2.2, ec=colour, fc="none"))


def arrow(ax: Any, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    """Draw an arrow with a text above it."""
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, lw=1.2, color=INK))
    ax.text((start[0] + end[0]) / 2, max(start[1], end[1]) + 0.12, text, ha="center", va="bottom", fontsize=9)


def finish(figure: Any, ax: Any, name: str) -> None:
    """Save a picture without axes."""
    ax.set_aspect("equal")
    ax.axis("off")
    figure.savefig(HERE / name, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


def direct() -> None:
    """Draw how the taps of a kernel are stretches of one row of x, and a block of registers that they fill."""
    figure, ax = plt.subplots(figsize=(8.6, 3.4))
    ax.text(0, 3.35, "a row of x: its columns, each with all N samples side by side", fontsize=9)
    for w in range(8):
        ax.add_patch(Rectangle((w, 2.7), 1, 0.45, lw=0.8, ec=INK, fc=PALE if w % 2 else "white"))
        ax.text(w + 0.5, 2.92, f"w = {w}", ha="center", va="center", fontsize=8)
    for j, colour in enumerate((BLUE, RED, GREEN)):
        y = 2.35 - 0.32 * j
        ax.plot([j, j + 6], [y, y], color=colour, lw=5, solid_capstyle="butt")
        ax.text(8.15, y, f"tap j = {j}: the same row, {j}·N values later", va="center", fontsize=9, color=colour)
    ax.text(0, 1.05, "registers: 6 output channels × 2 vectors of the row", fontsize=9)
    grid(ax, (0, 0.95), 6, 2, size=0.22, fc="#f4ddd8")
    ax.text(0.62, 0.29, "+=", fontsize=11, va="center")
    grid(ax, (1.3, 0.95), 6, 1, size=0.22, fc="#dcebdf")
    ax.text(1.7, 0.29, "×", fontsize=12, va="center")
    grid(ax, (2.1, 0.4), 1, 2, size=0.22, fc=PALE)
    ax.text(
        2.9,
        0.29,
        "for each tap (c, i, j): one weight for each channel, and two vectors read\n"
        "from the row at its shift. y is written once, after the last tap.",
        va="center",
        fontsize=9,
    )
    ax.set_xlim(-0.1, 12.6)
    ax.set_ylim(-0.5, 3.6)
    finish(figure, ax, "direct-convolution.svg")


def winograd() -> None:
    """Draw the tiles of F(4×2, 3×3), and the path of one of them."""
    figure, ax = plt.subplots(figsize=(9.4, 3.4))
    grid(ax, (0, 4), 10, 8)
    frame(ax, (0, 4), 6, 4, BLUE)
    frame(ax, (0.8, 4), 6, 4, RED)
    frame(ax, (0, 2.4), 6, 4, GREEN)
    ax.text(1.6, 4.12, "x: tiles of 6×4 that overlap", ha="center", va="bottom", fontsize=9)
    arrow(ax, (3.6, 2.8), (5.2, 2.8), "Bᵀ d B'")
    grid(ax, (5.6, 4), 6, 4, fc=PALE)
    ax.text(6.4, 4.12, "24 values", ha="center", va="bottom", fontsize=9)
    ax.text(8.1, 2.8, "⊙", fontsize=18, ha="center", va="center")
    grid(ax, (9, 4), 6, 4, fc="#dcebdf")
    ax.text(9.8, 4.12, "G w G'ᵀ", ha="center", va="bottom", fontsize=9)
    ax.text(
        8.1,
        1.35,
        "summed over the channels: 24 matrix products\n(O × C) · (C × tiles·N), 24 products for 8 outputs,\n"
        "where 8·9 = 72 are needed without",
        ha="center",
        va="top",
        fontsize=9,
    )
    arrow(ax, (11, 2.8), (12.6, 2.8), "Aᵀ · A'")
    grid(ax, (13, 3.6), 4, 2, fc="#f4ddd8")
    ax.text(13.4, 3.72, "4×2 of y", ha="center", va="bottom", fontsize=9)
    ax.set_xlim(-0.9, 15)
    ax.set_ylim(-0.3, 4.6)
    finish(figure, ax, "winograd.svg")


if __name__ == "__main__":
    plt.rcParams["svg.hashsalt"] = "minidl"
    direct()
    winograd()
