"""What tells the data that is there now from the data of a run, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = 5  # classes or data sets that are named
_SETS = {"train": "training", "test": "test"}


def changed(then: Mapping[str, Any], now: Mapping[str, Any], which: str = "") -> str:
    """Return how the data changed, "" where all that is known of it is the same.

    Parameters
    ----------
    then, now : dict
        What `describe.describe_data` and `describe.describe_dataset` return, in one. What only one of them knows is
        left out, for earlier versions recorded less.
    which : str
        Which images they are, where that is known.

    Examples
    --------
    >>> then = {"test_images_by_class": {"cat": 6, "dog": 5}, "test_sha256": "3f"}
    >>> changed(then, {"test_images_by_class": {"cat": 7, "dog": 5}, "test_sha256": "a0"})
    'cat: 7 test images now, 6 then'
    >>> changed(then, {**then, "test_sha256": "a0"})
    'as many test images, and others among them'
    """
    if "split" in then and "split" in now and then["split"] != now["split"]:
        return f"the split is {now['split']} now, {then['split']} then"
    for kind in ("images_by_class", "images"):
        counts = [{split: known.get(f"{split}_{kind}") for split in _SETS} for known in (then, now)]
        if words := _counted(*({split: each[split] or {} for split in _SETS} for each in counts if any(each.values()))):
            return words + (f" ({which})" if which else "")
    other = [split for split in _SETS if _differ(f"{split}_sha256", then, now)]
    if other or _differ("data_sha256", then, now):
        sets = " and ".join(_SETS[split] for split in other or _SETS)
        return which or f"as many {sets} images, and others among them"
    return ""


def skipped(config: Mapping[str, Any]) -> str:
    """Return what is to be known of files that were skipped, where they count as images: those that are read late."""
    if config.get("task") != "imagenet" or config.get("corrupt") != "skip":
        return ""
    return "; a file that was skipped counts as well, and an empty one of its name will do in its place"


def _differ(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return name in then and name in now and then[name] != now[name]


def _counted(*counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the classes, or data sets, of which there is another number of images."""
    if len(counts) < 2:  # one of the two does not know them
        return ""
    found = []
    for name in dict.fromkeys(name for each in counts for split in _SETS for name in each[split]):
        numbers = [[each[split].get(name, 0) for split in _SETS] for each in counts]
        if numbers[0] == numbers[1]:
            continue
        splits = [i for i in range(len(_SETS)) if numbers[0][i] != numbers[1][i]]
        kinds = [list(_SETS.values())[i] for i in splits]
        before, after = ([str(each[i]) for i in splits] for each in numbers)
        images = " and ".join(f"{count} {kind}" for count, kind in zip(after, kinds, strict=True))
        found.append(f"{name}: {images} images now, {' and '.join(before)} then")
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more
