"""The parts of a config.json, each with what a run writes into it: a file may hold anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_NEEDED = ("config", "data", "plan")
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
    for change in _objects(content, "went_on"):
        if not isinstance(change.get("backend", ""), str):
            raise ValueError(f"backend must be text, got {change['backend']!r:.60}")
        for name in change.keys() & {"ranks", "after_update"}:
            _count(change[name], name)


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
