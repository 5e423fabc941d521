"""Draw the picture of docs/explanation/scale-and-shift.md: this script writes mode-normalization.svg beside itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).parent
INK, BLUE, GREEN = "#222222", "#dde6f0", "#e4efe2"


def box(ax: Any, x: float, y: float, width: float, height: float, colour: str, title: str, *lines: str) -> None:
    """Draw a rounded box centred at x, y with a title and what it computes."""
    place = (x - width / 2, y - height / 2)
    shape = "round,pad=0,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch(place, width, height, boxstyle=shape, fc=colour, ec=INK))
    top = y + height / 2 - 0.28
    ax.text(x, top, title, ha="center", va="center", fontsize=9.5, weight="bold")
    for i, line in enumerate(lines, 1):
        ax.text(x, top - 0.45 * i, line, ha="center", va="center", fontsize=10)


def arrow(ax: Any, *points: tuple[float, float]) -> None:
    """Draw an arrow along these points."""
    ax.plot(*zip(*points, strict=True), color=INK, lw=1.1, solid_capstyle="butt")
    ax.add_patch(FancyArrowPatch(points[-2], points[-1], arrowstyle="-|>", mutation_scale=12, lw=1.1, color=INK))


def main() -> None:
    """Write the picture."""
    plt.rcParams["svg.hashsalt"] = "minidl"
    figure, ax = plt.subplots(figsize=(7.6, 7.4))
    box(ax, 3.6, 8.0, 7.2, 0.95, BLUE, "x (N, C, H, W): a pass over all pixels",
        r"$m_{nc} = \mathrm{mean}_p\ x_{ncp}\qquad v_{nc} = \mathrm{mean}_p\ (x_{ncp} - m_{nc})^2$")  # fmt: skip
    box(ax, 1.5, 6.2, 3.0, 0.95, GREEN, "gates (N, K)", r"$g_n = \mathrm{softmax}\,(A\, m_n + b)$")
    box(ax, 4.9, 4.35, 4.6, 1.45, GREEN, "moments of each mode (K, C)",
        r"$\mu_k = \Sigma_n\ w_{nk}\, m_n$",
        r"$\sigma_k^2 = \Sigma_n\ w_{nk}\,[v_n + (m_n - \mu_k)^2]$")  # fmt: skip
    box(ax, 3.6, 2.1, 7.2, 1.45, GREEN, "scale and shift (N, C)",
        r"$s_n = \Sigma_k\ g_{nk}\ \alpha\,(\sigma_k^2 + \epsilon)^{-1/2}$",
        r"$u_n = \Sigma_k\ g_{nk}\ \alpha\,(\sigma_k^2 + \epsilon)^{-1/2}\,(m_n - \mu_k) + \beta$")  # fmt: skip
    box(ax, 3.6, 0.2, 7.2, 0.95, BLUE, "y (N, C, H, W): a pass over all pixels",
        r"$y_{ncp} = (x_{ncp} - m_{nc})\, s_{nc} + u_{nc}$")  # fmt: skip
    arrow(ax, (1.5, 7.52), (1.5, 6.68))
    arrow(ax, (5.2, 7.52), (5.2, 5.08))
    arrow(ax, (1.0, 5.72), (1.0, 2.83))
    arrow(ax, (2.0, 5.72), (2.0, 4.35), (2.6, 4.35))
    arrow(ax, (5.2, 3.62), (5.2, 2.83))
    arrow(ax, (3.6, 1.37), (3.6, 0.68))
    arrow(ax, (7.2, 8.0), (7.7, 8.0), (7.7, 0.2), (7.2, 0.2))
    for x, y, text in (
        (1.62, 7.1, "m"), (5.32, 6.4, "m, v"), (0.75, 4.3, "g"), (5.32, 3.22, r"$\mu,\ \sigma^2$"),
        (3.72, 1.02, "s, u"), (7.8, 4.1, "x − m"), (2.1, 5.3, r"$w_{nk} = g_{nk} / \Sigma_n\, g_{nk}$"),
    ):  # fmt: skip
        ax.text(x, y, text, ha="left", va="center", fontsize=9.5)
    ax.set(xlim=(-0.1, 8.5), ylim=(-0.4, 8.6))
    ax.set_aspect("equal")
    ax.axis("off")
    figure.savefig(HERE / "mode-normalization.svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
