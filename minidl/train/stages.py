"""A run that is made longer when it is resumed: its stages, each with the plan that it followed.

From the update at which a run is given another length, its learning rate is that of a run of this length at the same
update. What it had trained before stays as it was, with the rates that it had.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..schedule import Schedule
from . import describe, rules
from .config import Config, digest
from .record import RunError

Stage = dict[str, Any]  # "length", "plan", and "until": the updates after which the next stage began


class StagedSchedule:
    """The learning rate of a run in stages: at each update that of the stage it belongs to.

    Parameters
    ----------
    schedules : sequence of Schedule
        One per stage.
    ends : sequence of int
        The updates after which each stage but the last ended.

    Examples
    --------
    >>> rate = StagedSchedule([lambda t: 1 + t, lambda t: 100 + t], ends=[3])
    >>> [rate(t) for t in (0, 2, 3, 4)]
    [1, 3, 103, 104]
    """

    def __init__(self, schedules: Sequence[Schedule], ends: Sequence[int]) -> None:
        self.schedules, self.ends = list(schedules), list(ends)

    def __call__(self, t: float) -> float:
        """Return the learning rate after t updates."""
        return self.schedules[bisect_right(self.ends, t)](t)


def make_schedule(config: Config, plan: dict[str, Any], earlier: Sequence[Stage]) -> Schedule:
    """Return the learning rate of a run with these earlier stages."""
    now = rules.make_schedule(config, plan)
    if not earlier:
        return now
    before = [rules.make_schedule(config, stage["plan"]) for stage in earlier]
    return StagedSchedule([*before, now], [stage["until"] for stage in earlier])


def ends(earlier: Sequence[Stage]) -> list[int]:
    """Return the updates at which earlier stages were finished, and so evaluated."""
    return [stage["until"] for stage in earlier if stage["until"] == stage["plan"]["updates"]]


def drops(plan: dict[str, Any], earlier: Sequence[Stage]) -> list[int]:
    """Return the updates after which the rate was, or will be, dropped."""
    found, start = [], 0
    for stage in earlier:
        found += [drop for drop in stage["plan"]["lr_drops_after_updates"] if start <= drop < stage["until"]]
        start = stage["until"]
    return found + [drop for drop in plan["lr_drops_after_updates"] if drop >= start]


def begin(there: dict[str, Any], length: str, plan: dict[str, Any], step: int, where: object) -> dict[str, Any]:
    """Return a run's config.json with a new stage, which begins after `step` updates.

    Raises
    ------
    RunError
        If the new length is no longer than what was trained already.
    """
    if plan["updates"] <= step:
        raise RunError(
            f"{where} has trained {step} updates already, and the length asked for is {plan['updates']}; "
            "give a longer one, or leave it out"
        )
    ended = {"length": there["config"]["length"], "plan": there["plan"], "until": step}
    return {
        **there,
        "config": {**there["config"], "length": length},
        "plan": plan,
        "stages": [*there.get("stages", []), ended],
    }


def as_of(content: dict[str, Any], stage: int) -> dict[str, Any]:
    """Return a config.json as it was in one of its earlier stages."""
    before = content["stages"][stage]
    older = {
        **content,
        "config": {**content["config"], "length": before["length"]},
        "plan": before["plan"],
        "stages": content["stages"][:stage],
    }
    return older if older["stages"] else {name: part for name, part in older.items() if name != "stages"}


def digests(content: dict[str, Any]) -> set[str]:
    """Return what the checkpoints of a run may carry as its identity: that of each of its stages and of its codes."""
    codes = [content]
    for change in reversed(content.get("code_changes", [])):
        code = codes[-1].get("code", {})
        before = {**code.get(change["part"], {}), "sha256": change["from"]}
        codes.append({**content, "code": {**code, change["part"]: before}})
    every = [as_of(each, stage) for each in codes for stage in range(len(content.get("stages", [])))]
    return {digest(describe.identity(each)) for each in (*every, *codes)}


def lacking(there: dict[str, Any], meta: dict[str, Any]) -> str:
    """Return, for a message, the part that a config.json may lack where a checkpoint is of another run than it says."""
    missing = [part for part in ("dataset", "input") if part not in there]
    return f", which has no {' and no '.join(missing)}" if missing and isinstance(meta.get("run"), dict) else ""
