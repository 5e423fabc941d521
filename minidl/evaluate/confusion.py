"""Which class is taken for which."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from minidl.backend import to_host
from minidl.printable import no_formula


@dataclass(frozen=True)
class ClassErrors:
    """Of the images of one class: how many there are, how many are taken for another, and which other most often."""

    name: str
    images: int
    wrong: int
    taken_for: str
    times: int

    @property
    def error(self) -> float | None:
        """The error in percent; None without an image."""
        return 100 * self.wrong / self.images if self.images else None


class Confusion:
    """The confusion matrix: counts[i, j] images of class i were taken for class j.

    Parameters
    ----------
    class_names : sequence of str

    Examples
    --------
    >>> confusion = Confusion(["cat", "dog"])
    >>> confusion.add([[2.0, 1.0], [0.5, 1.0], [0.0, 1.0]], [0, 0, 1])
    >>> confusion.counts
    array([[1, 1],
           [0, 1]])
    >>> confusion.by_class()[0]
    ClassErrors(name='cat', images=2, wrong=1, taken_for='dog', times=1)
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.counts = np.zeros((len(self.class_names),) * 2, np.int64)

    def add(self, logits: ArrayLike, labels: ArrayLike) -> None:
        """Count a batch: logits (N, num_classes), labels (N,)."""
        predicted = to_host(logits).argmax(axis=1)  # the first of equal ones, as the error is counted
        np.add.at(self.counts, (to_host(labels), predicted), 1)

    def by_class(self) -> list[ClassErrors]:
        """Return the errors of each class, in the order of the classes."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        found = []
        for i, name in enumerate(self.class_names):
            most = int(wrong[i].argmax())
            times = int(wrong[i, most])
            other = self.class_names[most] if times else ""
            found.append(ClassErrors(name, int(self.counts[i].sum()), int(wrong[i].sum()), other, times))
        return found

    def csv(self) -> str:
        """Return the matrix as CSV: a row a true class, a column a predicted one.

        Names are as of `minidl.printable.no_formula`.
        """
        rows = [["true \\ predicted", *self.class_names]]
        rows += [[name, *map(str, row)] for name, row in zip(self.class_names, self.counts.tolist(), strict=True)]
        return _csv(rows)

    def classes_csv(self) -> str:
        """Return `by_class` as CSV; the error is in percent."""
        rows = [["class", "images", "wrong", "error", "most often taken for", "times"]]
        for each in self.by_class():
            error = "" if each.error is None else f"{each.error:.2f}"
            rows.append([each.name, str(each.images), str(each.wrong), error, each.taken_for, str(each.times)])
        return _csv(rows)


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([no_formula(each) for each in row] for row in rows)
    return text.getvalue()
