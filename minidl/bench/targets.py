"""What was set out to be reached on a CPU, each measured beside its target: ``--only targets``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minidl.bench import cores, processes
from minidl.bench.cases import Settings, batch_of, network, own_step
from minidl.bench.record import Norm, Record, ratio_fields, record
from minidl.bench.timing import Rounds, interleave

EVERY_BATCH = (4, 16, 128, 512)


class Goal(NamedTuple):
    """What a ratio should be at least, or (`most`) at most, and what is aimed at."""

    target: float
    aim: float
    most: bool = False

    def verdict(self, ratio: float) -> Record:
        """Return the fields that say what the target is, and whether this ratio reaches it."""
        met = ratio <= self.target if self.most else ratio >= self.target
        return {"target": f"at {'most' if self.most else 'least'} {self.target:g}", "aim": self.aim, "met": met}


STEPS: tuple[tuple[str, tuple[str, ...], tuple[int, ...], Goal], ...] = (
    ("lenet", ("bn", "in", "ln"), EVERY_BATCH, Goal(2.0, 3.0)),
    ("lenet", ("gn",), EVERY_BATCH, Goal(1.8, 3.0)),
    ("lenet", ("mn2", "mgn2"), EVERY_BATCH, Goal(3.5, 5.0)),
    ("lenet", ("mn6",), EVERY_BATCH, Goal(6.0, 10.0)),
    ("resnet20", ("bn",), (128,), Goal(1.25, 1.6)),
    ("resnet20", ("mn2",), (128,), Goal(2.0, 3.0)),
    ("vgg13", ("bn",), (128,), Goal(1.15, 1.5)),
    ("nin", ("bn",), (128,), Goal(1.0, 1.4)),
)
MODES = Goal(1.05, 1.02, most=True)
THREADS = Goal(1.5, 1.8)
MEMORY = Goal(1.1, 0.8, most=True)


def targets(settings: Settings) -> Iterator[Record]:
    """Yield one record for each target, for the norms and batches asked for; deep networks have half the rounds.

    On several threads each says how near two cores were before it was measured and after it, in ns: see `cores`.
    """
    rows, near = _rows(settings), settings.threads > 1
    before = cores.exchange_ns() if near else None
    for row in rows:
        after = cores.exchange_ns() if near else None
        yield row | ({"core_to_core_ns": [before, after]} if near else {})
        before = after


def _rows(settings: Settings) -> Iterator[Record]:
    for model, norms, batches, goal in STEPS:
        for norm, n in _asked(settings, norms, batches):
            yield from _step(settings, model, norm, n, goal)
    for norm, n in _asked(settings, ("mn16",), (128,)):
        yield _modes(settings, norm, n)
    if settings.threads > 1:
        for norm, n in _asked(settings, ("bn", "mn2"), (128, 512)):
            yield _threads(settings, norm, n)
    for norm, n in _asked(settings, ("bn", "mn2"), (128, 512)):
        yield from _memory(settings, norm, n)


def _asked(settings: Settings, norms: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[tuple[Norm, int]]:
    for norm in map(Norm.parse, norms):
        for n in batches:
            if norm in (settings.norms or (norm,)) and n in (settings.batches or (n,)):
                yield norm, n


def _step(settings: Settings, model: str, norm: Norm, n: int, goal: Goal) -> Iterator[Record]:
    if model != "lenet":  # whose steps take seconds
        plan = settings.plan
        settings = replace(settings, plan=replace(plan, rounds=-(-plan.rounds // 2), warm_up=1, calls=2))
    rng = np.random.default_rng(0)
    times = settings.measure("step", network(model, norm, rng), *batch_of(n, rng))["step"]
    row = record("targets", f"{model} step", norm, n, settings.threads, **times)
    yield row | (goal.verdict(row["ratio"]) if row["ratio"] else {})


def _modes(settings: Settings, norm: Norm, n: int) -> Record:
    one = Norm("mn", 1)
    taken = interleave({each.label: own_step(each, n, settings.threads) for each in (one, norm)}, settings.plan)
    time, least = taken[norm.label]["step"], taken[one.label]["step"]
    return _own(settings, norm, n, time, time, least, "time / time of MN K=1", MODES)


def _threads(settings: Settings, norm: Norm, n: int) -> Record:
    works = {"one": own_step(norm, n, 1), "all": own_step(norm, n, settings.threads)}
    taken = interleave(works, settings.plan)
    one, every = taken["one"]["step"], taken["all"]["step"]
    return _own(settings, norm, n, every, one, every, f"time on 1 thread / on {settings.threads}", THREADS)


def _own(
    settings: Settings, norm: Norm, n: int, time: Rounds, above: Rounds, below: Rounds, name: str, goal: Goal
) -> Record:
    row = record("targets", "lenet step", norm, n, settings.threads, time, **ratio_fields(above, below, name))
    return row | goal.verdict(row["ratio"])


def _memory(settings: Settings, norm: Norm, n: int) -> Iterator[Record]:
    for row in processes.memory(replace(settings, norms=(norm,), batches=(n,))):
        if row["ratio"]:
            turned = {name: 1 / row[of] for name, of in _TURNED.items()}
            row |= {"section": "targets", "ratio_is": "peak memory, minidl / PyTorch", **turned}
            yield row | MEMORY.verdict(row["ratio"])


_TURNED = {"ratio": "ratio", "ratio_low": "ratio_high", "ratio_high": "ratio_low"}
