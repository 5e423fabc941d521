"""What is noted of the images of a folder, so that a run can say later which of them changed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 5  # images that are named
FEW = 4096  # images up to which each has a digest, else each class: a record stays small
_LETTERS = 8  # of an image's digest
_CLASS = "class:"  # begins the digest of all images of a class
Digests = Mapping[str, Mapping[str, str]]


def digest(image: NDArray[np.uint8]) -> str:
    """Return the first letters of the sha256 of an image's pixels."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:_LETTERS]


def joined(
    digests: Mapping[str, Sequence[str]], labels: Mapping[str, NDArray[np.int64]], class_names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return {set: {class: its images' digests side by side}}; of more than `FEW` images, one digest of a class.

    >>> joined({"train": ["aaaaaaaa", "bbbbbbbb"]}, {"train": np.array([1, 1])}, ["cat", "dog"])
    {'train': {'cat': '', 'dog': 'aaaaaaaabbbbbbbb'}}
    """
    few = sum(map(len, digests.values())) <= FEW
    found = {}
    for name, of_images in digests.items():
        texts = [""] * len(class_names)
        for label, text in zip(labels[name].tolist(), of_images, strict=True):
            texts[label] += text
        if not few:
            texts = [_CLASS + hashlib.sha256(text.encode()).hexdigest()[: 2 * _LETTERS] for text in texts]
        found[name] = dict(zip(class_names, texts, strict=True))
    return found


@dataclass(frozen=True)
class Noted:
    """The digests of a folder's images, which a run records, and the images' names, which it does not.

    Attributes
    ----------
    digests : {set: {class: text}}
        Of `joined`.
    names : {set: {class: list of str}}
        Relative to the folder, in the order of the digests.
    """

    digests: Digests
    names: Mapping[str, Mapping[str, Sequence[str]]]

    def differing(self, then: Any) -> str:
        """Return which images are not among those of a record, "" where that cannot be told.

        Parameters
        ----------
        then : {set: {class: text}}
            The digests that a run recorded; a file may hold anything.

        Examples
        --------
        >>> noted = Noted({"test": {"cat": "aaaaaaaabbbbbbbb"}}, {"test": {"cat": ["cat/1.png", "cat/2.png"]}})
        >>> noted.differing({"test": {"cat": "aaaaaaaacccccccc"}})
        'cat/2.png changed'
        """
        if not isinstance(then, Mapping) or then.keys() != self.digests.keys():
            return ""
        if not all(
            isinstance(each, Mapping) and all(isinstance(t, str) for t in each.values()) for each in then.values()
        ):
            return ""
        told: list[str] = []
        moved: list[str] = []
        for name in dict.fromkeys(name for each in self.digests.values() for name in each):
            before, now = ([digests[which].get(name, "") for which in self.digests] for digests in (then, self.digests))
            if before != now:
                moved.append(name)
                told += self._told(name, before, now)
        if moved and not told:
            return f"the images of {shortened(moved)} have other names, and so another order"
        return shortened(told)

    def _told(self, name: str, before: list[str], now: list[str]) -> Iterator[str]:
        if any(text.startswith(_CLASS) for text in (*before, *now)):
            yield f"images of {name} changed"
            return
        left = Counter(each for text in before for each in _each(text))
        new = []
        for which, text in zip(self.digests, now, strict=True):
            for each, file in zip(_each(text), self.names[which].get(name, ()), strict=False):
                if left[each]:
                    left[each] -= 1
                else:
                    new.append(file)
        gone = left.total()
        yield from (f"{file} {'changed' if i < gone else 'is new'}" for i, file in enumerate(new))
        if gone > len(new):
            count = gone - len(new)
            yield f"{count} image{'s' * (count > 1)} of {name} {'are' if count > 1 else 'is'} gone"


def shortened(names: Sequence[str]) -> str:
    """Return the first few of these, and how many more there are."""
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _each(text: str) -> list[str]:
    return [text[i : i + _LETTERS] for i in range(0, len(text), _LETTERS)]
