"""The parts of a config.json, each with what a run writes into it: a file may hold anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..backend import NAMES as BACKENDS

_NEEDED = ("config", "data", "plan")
_CHOSEN = tuple(name for name in BACKENDS if name != "auto")  # which stands for one of them
_OBJECTS = (*_NEEDED, "dataset", "input", "code", "from")


def check_parts(content: Any, needed: tuple[str, ...] = _NEEDED) -> None:
    """Raise ValueError, with the part that is wrong, unless each that is there can be used, and the needed ones are.

    What is within `config` and `input` is looked at where it is used.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"it must be an object, got {type(content).__name__}")
    if missing := [part for part in needed if part not in content]:
        raise ValueError(f"it has no {', '.join(missing)}")
    for part in _OBJECTS:
        if not isinstance(content.get(part, {}), dict):
            raise ValueError(f"{part} must be an object, got {content[part]!r:.60}")
    if "plan" in content:
        _check_plan(content["plan"])
    for part in ("data", "dataset"):
        _check_data(content.get(part, {}), part)
    for part, facts in content.get("code", {}).items():
        if not isinstance(facts, dict) or not _is_text(facts.get("name")) or not _is_text(facts.get("sha256", "")):
            raise ValueError(f"code of {part!r:.60} must have a name and a sha256, got {facts!r:.60}")
    if "from" in content and not isinstance(content["from"].get("checkpoint_sha256"), str):
        raise ValueError("from must have a checkpoint_sha256")
    for stage in _objects(content, "stages"):
        if not {"length", "plan", "until"} <= stage.keys() or not _is_text(stage["length"]):
            raise ValueError(f"stages must have length, plan and until, got {stage!r:.60}")
        _check_plan(stage["plan"])
        _count(stage["until"], "until")
    for change in _objects(content, "code_changes"):
        if change.keys() != {"after_update", "part", "from", "to"} or change["part"] not in content.get("code", {}):
            raise ValueError(f"code_changes must have after_update, part, from and to, got {change!r:.60}")
        if not _is_text(change["from"]) or not _is_text(change["to"]):
            raise ValueError(f"from and to of code_changes must be a sha256, got {change!r:.60}")
        _count(change["after_update"], "after_update")
    for change in _objects(content, "went_on"):
        if not {"after_update"} < change.keys() <= {"after_update", "backend", "ranks"}:
            raise ValueError(f"went_on must have after_update and backend or ranks, got {change!r:.60}")
        if change.get("backend", "numpy") not in _CHOSEN:
            raise ValueError(f"backend of went_on must be one of {', '.join(_CHOSEN)}, got {change['backend']!r:.60}")
        for name in change.keys() & {"ranks", "after_update"}:
            _count(change[name], name)
        if change.get("ranks", 1) < 1:
            raise ValueError(f"ranks of went_on must be at least 1, got {change['ranks']}")


def _check_data(data: Mapping[str, Any], part: str) -> None:
    """Raise ValueError unless what is known of the data is of its kind; versions differ in how much that is."""
    for name in ("data_sha256", "train_sha256", "test_sha256", "split"):
        if name in data and not isinstance(data[name], str):
            raise ValueError(f"{name} of {part} must be text, got {data[name]!r:.60}")
    for name in ("train_images", "test_images", "train_images_by_class", "test_images_by_class"):
        counts = data.get(name, {})
        if not isinstance(counts, dict):
            raise ValueError(f"{name} of {part} must be an object, got {counts!r:.60}")
        for of, count in counts.items():
            _count(count, f"{name} of {of!r:.60}")


def _objects(content: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    found = content.get(part, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{part} must be a list of objects, got {found!r:.60}")
    return found


def _check_plan(plan: Any) -> None:
    if not isinstance(plan, dict) or "updates" not in plan or "lr_drops_after_updates" not in plan:
        raise ValueError(f"plan must have updates and lr_drops_after_updates, got {plan!r:.60}")
    for name, value in plan.items():
        for each in value if isinstance(value, list) else [value]:
            if name == "epochs" and isinstance(each, float) and math.isfinite(each) and each >= 0:
                continue
            _count(each, name)
    if not isinstance(plan["lr_drops_after_updates"], list) or isinstance(plan["updates"], list):
        raise ValueError(f"plan must have a number of updates and a list of drops, got {plan!r:.60}")


def _count(value: Any, name: str) -> None:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{name} must be a whole number from 0, got {value!r:.60}")


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)
