"""What is measured on a GPU: training steps, modes, and the targets, beside PyTorch eager and in a CUDA graph.

A GPU works while the host goes on, and a step of a small network is as long as launching its kernels takes. So what is
timed is a run of many steps, from a device at rest until it is at rest again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from minidl import device
from minidl.backend import to_device
from minidl.bench import minidl_side
from minidl.bench.cases import MODES, NORMS, Settings, batch_of, network, norms_of
from minidl.bench.record import Norm, Record, ratio_fields, record
from minidl.bench.timing import Rounds, Work, interleave

STEPS = 20  # in a run
TARGET_BATCH = 128
GRAPH = "PyTorch in a CUDA graph"
BN, MN6 = Norm("bn"), Norm("mn", 6)


def in_runs(work: Work, wait: Callable[[], object], steps: int) -> Work:
    """Return the work whose parts are runs of so many steps, waited for at their ends; a step is what is timed."""

    def run(step: Callable[[], object]) -> None:
        for _ in range(steps):
            step()
        wait()

    return Work({part: partial(run, step) for part, step in work.parts.items()}, inside=work.inside, steps=steps)


def works(settings: Settings, model: str, norm: Norm, n: int) -> dict[str, Work]:
    """Return a training step of each side: "minidl", and "torch" and "graph" where PyTorch takes part."""
    rng = np.random.default_rng(0)
    net = network(model, norm, rng)
    x, labels = batch_of(n, rng)
    runs = partial(in_runs, steps=2 if settings.quick else STEPS)
    found = {
        "minidl": runs(minidl_side.step(net, to_device(x), to_device(labels), settings.threads), device.synchronize)
    }
    if side := settings.sides.get("torch"):
        found["torch"] = runs(side.step(net, x, labels), side.synchronize)
        found["graph"] = runs(side.captured_step(net, x, labels), side.synchronize)
    return found


def steps(settings: Settings) -> Iterator[Record]:
    """One training step of each network against both ways of PyTorch."""
    for model in settings.models:
        for norm in norms_of(settings, *NORMS):
            for n in settings.batches or (4, 16, 128, 512):
                taken = interleave(works(settings, model, norm, n), settings.plan)
                times = {side: parts["step"] for side, parts in taken.items()}
                yield record("steps", f"{model} step", norm, n, None, times["minidl"], times.get("torch"))
                if "graph" in times:
                    yield record("steps", f"{model} step, {GRAPH}", norm, n, None, times["minidl"], times["graph"])


def modes(settings: Settings) -> Iterator[Record]:
    """The cost of K modes, and of BN, over that of one mode."""
    norms = [Norm("mn", k) for k in MODES] + [BN]
    for n in settings.batches or (128,):
        taken = interleave({norm.label: works(settings, "lenet", norm, n)["minidl"] for norm in norms}, settings.plan)
        one_mode = taken[norms[0].label]["step"]
        for norm in norms:
            time = taken[norm.label]["step"]
            over = ratio_fields(time, one_mode, "time / time of MN K=1")
            yield record("modes", "lenet step", norm, n, None, time, **over)


class Target(NamedTuple):
    """A ratio of two measured steps and what it should be."""

    above: tuple[str, Norm]
    below: tuple[str, Norm]
    least: float | None
    most: float | None = None

    @property
    def text(self) -> str:
        """Return the target in words."""
        return f"at most {self.most:g}" if self.least is None else f"at least {self.least:g}"

    def met(self, ratio: float) -> bool:
        """Return whether a ratio reaches it."""
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)


TARGETS = (
    Target(("torch", MN6), ("minidl", MN6), least=3.0),
    Target(("torch", BN), ("minidl", MN6), least=1.0),
    Target(("minidl", MN6), ("minidl", BN), least=None, most=1.03),
    Target(("graph", MN6), ("minidl", MN6), least=1.0),
    Target(("graph", BN), ("minidl", BN), least=1.0),
)
NAMES = {"minidl": "minidl", "torch": "PyTorch", "graph": GRAPH}


def targets(settings: Settings) -> Iterator[Record]:
    """minidl's targets with LeNet at N = 128, each ratio of steps that were measured in turn."""
    both = {norm: works(settings, "lenet", norm, TARGET_BATCH) for norm in (BN, MN6)}
    sides = {f"{side} {norm.label}": work for norm in both for side, work in both[norm].items()}
    taken = interleave(sides, settings.plan)

    def times(side: str, norm: Norm) -> Rounds | None:
        return taken.get(f"{side} {norm.label}", {}).get("step")

    for target in TARGETS:
        above, below = times(*target.above), times(*target.below)
        if above is None or below is None:  # PyTorch takes no part
            continue
        names = [f"{NAMES[side]} {norm.label}" for side, norm in (target.above, target.below)]
        found = ratio_fields(above, below, " / ".join(names))
        verdict: Record = {"target": target.text, "met": target.met(found["ratio"])}
        yield record("targets", "lenet step", target.below[1], TARGET_BATCH, None, below, **found, **verdict)
