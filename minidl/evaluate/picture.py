"""The confusion matrix as a picture."""

from __future__ import annotations

import io
import warnings

import numpy as np

from minidl.evaluate.confusion import Confusion
from minidl.train.plots import own_settings

NUMBERED = 25  # classes up to which each field has its count in it
NAMED = 60  # and up to which each row and column has its name
LONGEST = 24  # letters of a name


def draw(confusion: Confusion, title: str) -> bytes:
    """Return a PNG: a row a true class, a column a predicted one, coloured by the share of the row's images.

    Up to 25 classes the fields have their counts; of more than 60 every few rows are named.
    """
    with own_settings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
        return _draw(confusion, title)


def _draw(confusion: Confusion, title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    K = len(confusion.class_names)
    counts = confusion.counts
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(4.0 + 0.42 * K, 14.0)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    every = max(1, -(-K // NAMED))
    places = list(range(0, K, every))
    names = [_short(confusion.class_names[i]) for i in places]
    small = 9 if K <= NUMBERED else 7
    ax.set_xticks(places, names, rotation=90 if K > 6 or max(map(len, names)) > 7 else 0, fontsize=small)
    ax.set_yticks(places, names, fontsize=small)
    ax.set(xlabel="predicted", ylabel="true")
    if K <= NUMBERED:
        for i in range(K):
            for j in range(K):
                if counts[i, j]:
                    colour = "white" if shares[i, j] > 0.55 else "black"
                    ax.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=small)
    figure.colorbar(image, ax=ax, shrink=0.6, fraction=0.05, label="share of the true class's images")
    figure.suptitle(_plain(title), fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _short(name: str) -> str:
    return _plain(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…")


def _plain(text: str) -> str:
    """Return text that matplotlib does not read as a formula, and that can be drawn."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
