"""What is measured within one process: training steps, modes, threads, convolutions and layers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl.bench import minidl_side
from minidl.bench.record import Norm, Record, ratio_fields, record
from minidl.bench.timing import Plan, Work, interleave
from minidl.layers.base import Layer
from minidl.layers.conv import Conv2d
from minidl.layers.flatten import Flatten
from minidl.models import MODELS
from minidl.norm.base import Norm as NormLayer

NORMS = ("none", "bn", "in", "ln", "gn", "mn2", "mn6", "mgn2")
MODES = (1, 2, 4, 6, 8, 16)
CONVOLUTIONS = (  # (network, channels in and out, height and width)
    ("ResNet20", 16, 32),
    ("ResNet20", 32, 16),
    ("ResNet20", 64, 8),
    ("VGG13", 64, 32),
    ("VGG13", 128, 16),
    ("VGG13", 256, 8),
    ("VGG13", 512, 4),
    ("VGG13", 512, 2),
)
CLASSES = 40


@dataclass(frozen=True)
class Settings:
    """What the command line asks for; None leaves batches and norms to each section."""

    plan: Plan
    sides: Mapping[str, Any]  # {"minidl": minidl_side} and perhaps {"torch": torch_side}: modules of one interface
    threads: int
    batches: tuple[int, ...] | None
    norms: tuple[Norm, ...] | None
    models: tuple[str, ...]
    data_dir: Path | None
    quick: bool

    def measure(self, make: str, *arguments: Any, **torch_options: Any) -> dict[str, Any]:
        """Measure the function `make` of every side; return {part: {side + "_time": rounds}}."""
        works = {
            name: getattr(side, make)(*arguments, self.threads, **(torch_options if name == "torch" else {}))
            for name, side in self.sides.items()
        }
        taken = interleave(works, self.plan)
        parts = works["minidl"].parts
        return {part: {f"{side}_time": taken[side][part] for side in works} for part in parts}


def network(model: str, norm: Norm, rng: np.random.Generator) -> Any:
    """Return a network with this norm."""
    return MODELS[model](CLASSES, norm=norm.factory(), rng=rng)


def batch_of(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return n images of noise and their labels."""
    return minidl_side.normal((n, 3, 32, 32), rng), rng.integers(0, CLASSES, n)


def norms_of(settings: Settings, *default: str) -> tuple[Norm, ...]:
    """Return the norms asked for, or the default ones."""
    return settings.norms or tuple(map(Norm.parse, default))


def steps(settings: Settings) -> Iterator[Record]:
    """One training step of each network; for BN also with PyTorch in minidl's order, to show what that is worth."""
    for model in settings.models:
        for norm in norms_of(settings, *NORMS):
            for n in settings.batches or ((4, 16, 128, 512) if model == "lenet" else (128,)):
                yield _step(settings, model, norm, n)
                if norm.name == "bn" and model == "lenet" and "torch" in settings.sides:
                    yield _step(settings, model, norm, n, pool_first=True)


def _step(settings: Settings, model: str, norm: Norm, n: int, **torch_options: bool) -> Record:
    rng = np.random.default_rng(0)
    times = settings.measure("step", network(model, norm, rng), *batch_of(n, rng), **torch_options)["step"]
    what = f"{model} step" + (", PyTorch pools first" if torch_options else "")
    return record("steps", what, norm, n, settings.threads, **times)


def modes(settings: Settings) -> Iterator[Record]:
    """The cost of K modes, and of BN, over that of one mode."""
    norms = [Norm("mn", k) for k in MODES] + [Norm("bn")]
    for n in settings.batches or (4, 16, 128, 512):
        taken = interleave({norm.label: own_step(norm, n, settings.threads) for norm in norms}, settings.plan)
        one_mode = taken[norms[0].label]["step"]
        for norm in norms:
            time = taken[norm.label]["step"]
            over = ratio_fields(time, one_mode, "time / time of MN K=1")
            yield record("modes", "lenet step", norm, n, settings.threads, time, **over)


def threads(settings: Settings) -> Iterator[Record]:
    """How much faster a step is on several threads than on one."""
    if settings.threads == 1:
        print("minidl.bench: threads: there is only one thread, so there is nothing to compare", file=sys.stderr)
        return
    for norm in norms_of(settings, "bn", "mn2"):
        for n in settings.batches or (128, 512):
            works = {"one": own_step(norm, n, 1), "all": own_step(norm, n, settings.threads)}
            taken = interleave(works, settings.plan)
            one, every = taken["one"]["step"], taken["all"]["step"]
            gain = ratio_fields(one, every, f"time on 1 thread / on {settings.threads}")
            yield record("threads", "lenet step", norm, n, settings.threads, every, **gain)


def own_step(norm: Norm, n: int, num_threads: int) -> Work:
    """Return a training step of LeNet, minidl's alone."""
    rng = np.random.default_rng(0)
    return minidl_side.step(network("lenet", norm, rng), *batch_of(n, rng), num_threads)


def convolutions(settings: Settings) -> Iterator[Record]:
    """The 3×3 convolutions that residual networks and VGG are made of, with their arithmetic in GFLOP."""
    rng = np.random.default_rng(0)
    for n in settings.batches or (128,):
        for name, c, h in CONVOLUTIONS:
            conv = Conv2d(c, c, 3, padding=1, bias=False, rng=rng)
            x, dy = (minidl_side.normal((n, c, h, h), rng) for _ in range(2))
            parts = settings.measure("layer", conv, x, dy)
            both = {side: _together(parts["forward"][side], parts["backward"][side]) for side in parts["forward"]}
            gflop = 3 * 2 * n * h * h * c * c * 9 / 1e9
            yield record("convolutions", f"{name} {c}→{c}, {h}²", None, n, settings.threads, **both, gflop=gflop)


def _together(forward: list[np.ndarray], backward: list[np.ndarray]) -> list[np.ndarray]:
    return [f + b for f, b in zip(forward, backward, strict=True)]


def layers(settings: Settings) -> Iterator[Record]:
    """Each layer of LeNet on the values it meets there, forward and backward, then the loss and the optimiser."""
    norms = sorted(norms_of(settings, *NORMS), key=lambda norm: norm.name == "none")  # its convolutions have biases
    for n in settings.batches or (128,):
        rng = np.random.default_rng(0)
        seen: set[tuple[str, Norm | None]] = set()
        for norm in norms:
            net = network("lenet", norm, rng)
            x, labels = batch_of(n, rng)
            for one in net.layers:
                y = one.forward(x)
                what, own = _name(one, x, y), norm if isinstance(one, NormLayer) else None
                if (what, own) not in seen and not isinstance(one, Flatten):
                    seen.add((what, own))
                    one.backward(dy := minidl_side.normal(y.shape, rng))
                    yield from _passes(settings, what, n, settings.measure("layer", one, x, dy), own)
                x = y
        yield from _passes(settings, "SoftmaxCrossEntropy", n, settings.measure("loss", x, labels))
        yield from _passes(settings, f"SGD of {net.num_params()} parameters", None, settings.measure("sgd", net))


def _passes(
    settings: Settings, what: str, n: int | None, parts: Mapping[str, Any], norm: Norm | None = None
) -> Iterator[Record]:
    for part, times in parts.items():
        yield record("layers", what, norm, n, settings.threads, **times) | {"pass": part}


def _name(one: Layer, x: np.ndarray, y: np.ndarray) -> str:
    """Return such as "Conv2d 5×5, 3×32×32 → 6×28×28"."""
    before, after = ("×".join(map(str, a.shape[1:])) for a in (x, y))
    kernel = " {}×{},".format(*one.kernel_size) if isinstance(one, Conv2d) else ""
    return f"{type(one).__name__}{kernel} {before}" + (f" → {after}" if after != before else "")
