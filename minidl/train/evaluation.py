"""What a line of metrics.jsonl may hold, wherever it is read from: a file may say anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TIME_FIELDS = ("seconds", "images_per_second")  # all that differs between two runs of one command
_PERCENT = ("test_error", "test_error_top5", "train_error")
_NOT_NEGATIVE = ("epoch", "lr", "train_loss", "test_loss", "seconds", "images_per_second")
_COUNTS = ("step", "touches")
_MOST = 1 << 62
_DEPTH = 6  # "gates" has objects of objects of lists


def check_evaluation(line: Any) -> dict[str, Any]:
    """Return an evaluation if it is one; versions differ in what they add, never in what a name means.

    Raises
    ------
    ValueError
        With the first thing that is wrong.
    """
    if not isinstance(line, dict):
        raise ValueError(f"an evaluation must be an object, got {type(line).__name__}")
    if missing := {"step", "epoch", "test_error", "test_errors"} - line.keys():
        raise ValueError(f"an evaluation must have {', '.join(sorted(missing))}, got none")
    check_line(line)
    for part in ("test_errors", "modes", "gates"):
        if not isinstance(line.get(part, {}), dict):
            raise ValueError(f"{part} must be an object, got {line[part]!r:.60}")
    for name, error in line["test_errors"].items():
        _number(error, f"test_errors of {name!r:.60}", 100)
    for name, modes in line.get("modes", {}).items():
        if type(modes) is not int or modes < 1:
            raise ValueError(f"modes of {name!r:.60} must be a whole number from 1, got {modes!r:.60}")
    for name, usage in line.get("gates", {}).items():
        _gates(name, usage)
    return line


def check_line(line: Mapping[str, Any]) -> None:
    """Raise ValueError unless the numbers of a line of metrics.jsonl or losses.jsonl are in range, and all finite."""
    for name in _COUNTS:
        if name in line and (type(line[name]) is not int or not 0 <= line[name] <= _MOST):
            raise ValueError(f"{name} must be a whole number from 0, got {line[name]!r:.60}")
    for names, most in ((_PERCENT, 100), (_NOT_NEGATIVE, math.inf)):
        for name in names:
            if line.get(name) is not None or name in ("epoch", "test_error"):
                _number(line.get(name, 0), name, most)
    _finite(line, _DEPTH)


def _gates(name: str, usage: Any) -> None:
    if not isinstance(usage, dict) or not usage.keys() >= {"usage", "entropy"}:
        raise ValueError(f"gates of {name!r:.60} must have usage and entropy, got {usage!r:.60}")
    if not isinstance(usage["usage"], list) or not usage["usage"]:
        raise ValueError(f"usage of {name!r:.60} must be a list, got {usage['usage']!r:.60}")
    for share in usage["usage"]:
        _number(share, f"usage of {name!r:.60}", 1 + 1e-6)
    for each in usage.keys() & {"entropy", "sample_entropy"}:
        if type(usage[each]) not in (int, float):
            raise ValueError(f"{each} of {name!r:.60} must be a number, got {usage[each]!r:.60}")


def _number(value: Any, name: str, most: float) -> None:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= most:
        raise ValueError(f"{name} must be a number from 0 to {most}, got {value!r:.60}")


def _finite(value: Any, depth: int) -> None:
    """Raise ValueError unless strict JSON can hold a value."""
    if depth < 0:
        raise ValueError("it must not be nested so deeply")
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str):
                raise ValueError(f"names must be text, got {name!r:.60}")
            _finite(each, depth - 1)
    elif isinstance(value, list):
        for each in value:
            _finite(each, depth - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"every number must be finite, got {value}")
    elif value is not None and not isinstance(value, str | int):
        raise ValueError(f"it must be JSON, got {type(value).__name__}")
