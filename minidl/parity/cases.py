"""Everything that is compared: odd sizes that a wrong index cannot survive, and LeNet's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minidl.data import Compose, PadCrop, RandomFlip
from minidl.layers.activation import ReLU, Tanh
from minidl.layers.base import Layer
from minidl.layers.compose import Residual, Sequential
from minidl.layers.conv import Conv2d
from minidl.layers.dropout import Dropout
from minidl.layers.flatten import Flatten
from minidl.layers.linear import Linear
from minidl.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minidl.models import MODELS
from minidl.norm import (
    NORMS,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    ModeGroupNorm,
    ModeNorm,
    norm_factory,
)
from minidl.parity import subjects
from minidl.parity.subjects import Subject

GROUPS = {
    "layers": "layers",
    "norms": "norms, in training and inference",
    "losses": "the loss",
    "optimisers": "three steps of the optimiser",
    "loaders": "the batches of an epoch",
    "models": "whole networks",
}
ODD = (5, 4, 7, 3)
LENET = (128, 6, 28, 28)


@dataclass(frozen=True)
class Case:
    """One line of the report.

    Attributes
    ----------
    group : a key of GROUPS
    name : what is compared
    subject : makes it
    """

    group: str
    name: str
    subject: Subject


def cases() -> Iterator[Case]:
    """Yield every case."""
    yield from _layers()
    yield from _norms()
    for n, classes, size in ((7, 4, 1.0), (128, 40, 1.0), (7, 4, 1e4)):
        yield Case(
            "losses", f"SoftmaxCrossEntropy ({n}, {classes}), logits of {size:g}", subjects.loss(n, classes, size)
        )
    for options in ({}, {"momentum": 0.9}, {"momentum": 0.8, "weight_decay": 0.1, "nesterov": True}):
        text = ", ".join(f"{name}={value}" for name, value in options.items())
        yield Case("optimisers", f"SGD({text})", subjects.optimiser(7, 5, **options))
    for text, augment in (("", None), (", flip and crop", Compose(RandomFlip(), PadCrop(4)))):
        yield Case("loaders", f"batches of 4{text}", subjects.loader(19, 4, augment))
    yield from _models()


def _layers() -> Iterator[Case]:
    def case(text: str, kind: Callable[..., Layer], shape: tuple[int, ...], *arguments: Any, **options: Any) -> Case:
        drawn = {"rng", "dtype"} if kind in (Conv2d, Linear) else {"rng"} if kind is Dropout else set()

        def make(rng: np.random.Generator, dtype: str) -> Layer:
            given = {"rng": rng, "dtype": dtype}
            return kind(*arguments, **options, **{name: given[name] for name in drawn})

        name = f"{kind.__name__}{text} {'×'.join(map(str, shape))}"
        return Case("layers", name, subjects.layer(make, shape))

    yield case("(7, 5)", Linear, (4, 7), 7, 5)
    yield case("(7, 5), no bias", Linear, (4, 7), 7, 5, bias=False)
    yield case("(400, 120)", Linear, (128, 400), 400, 120)
    yield case("(4, 5, 3)", Conv2d, ODD, 4, 5, 3)
    yield case("(4, 5, 1), no bias", Conv2d, ODD, 4, 5, 1, bias=False)
    yield case("(4, 5, 3), padding 1", Conv2d, ODD, 4, 5, 3, padding=1)
    yield case("(4, 5, 3×2), stride 2×1, padding 2×1", Conv2d, ODD, 4, 5, (3, 2), stride=(2, 1), padding=(2, 1))
    yield case("(4, 5, 2), stride 3", Conv2d, (5, 4, 7, 8), 4, 5, 2, stride=3)
    yield case("(3, 6, 5), no dx", Conv2d, (128, 3, 32, 32), 3, 6, 5, needs_dx=False)
    yield case("(6, 16, 5)", Conv2d, (128, 6, 14, 14), 6, 16, 5)
    for kind in (MaxPool2d, AvgPool2d):
        yield case("(2)", kind, (5, 4, 7, 6), 2)
        yield case("(3), stride 2, padding 1", kind, ODD, 3, stride=2, padding=1)
        yield case("(2×3), stride 1×2, padding 1×0", kind, ODD, (2, 3), stride=(1, 2), padding=(1, 0))
        yield case("(2)", kind, LENET, 2)
    yield case("", GlobalAvgPool2d, ODD)
    yield case("", ReLU, ODD)
    yield case("", ReLU, LENET)
    yield case("", Tanh, ODD)
    yield case("(0.3)", Dropout, ODD, 0.3)
    yield case("", Flatten, ODD)

    def residual(rng: np.random.Generator, dtype: str) -> Layer:
        def conv(size: int, padding: int) -> Conv2d:
            return Conv2d(4, 5, size, padding=padding, rng=rng, dtype=dtype)

        return Residual(Sequential(conv(3, 1)), conv(1, 0))

    yield Case("layers", f"Residual(Conv2d, Conv2d) {'×'.join(map(str, ODD))}", subjects.layer(residual, ODD))


def _norms() -> Iterator[Case]:
    def cases_of(text: str, kind: Callable[..., Layer], *arguments: Any, **options: Any) -> Iterator[Case]:
        drawn = kind in (ModeNorm, ModeGroupNorm)

        def make(channels: int, rng: np.random.Generator, dtype: str) -> Layer:
            given = (arguments[0], channels) if kind is GroupNorm else (channels, *arguments)
            return kind(*given, **options, dtype=dtype, **({"rng": rng} if drawn else {}))

        for shape in (ODD, LENET) if not options else (ODD,):
            for training in (True, False) if kind in (BatchNorm, ModeNorm) else (True,):
                far = shape == ODD and training and not options and kind is not ModeGroupNorm  # whose gates saturate
                for mean in (0.5, 1e3) if far else (0.5,):
                    where = "" if training else ", inference"
                    where += "" if mean < 1 else f", mean {mean:g}"
                    name = f"{kind.__name__}{text}{where} {'×'.join(map(str, shape))}"
                    subject = subjects.layer(partial(make, shape[1]), shape, training, mean)
                    yield Case("norms", name, subject)

    yield from cases_of("", BatchNorm)
    yield from cases_of(", moments kept", BatchNorm, running="second_moment")
    yield from cases_of("", InstanceNorm)
    yield from cases_of("", LayerNorm)
    yield from cases_of("(2 groups)", GroupNorm, 2)
    for k in (2, 6):
        yield from cases_of(f"(K={k})", ModeNorm, k)
    yield from cases_of("(K=3), affine per mode", ModeNorm, 3, per_mode_affine=True)
    yield from cases_of("(K=2)", ModeGroupNorm, 2)
    yield from cases_of("(K=3), pooled", ModeGroupNorm, 3, moments="pooled")


_NARROW: dict[str, dict[str, int]] = {  # large networks, a few channels wide, with two norms; ResNet56 is a ResNet20
    "nin": {"width": 6},
    "vgg13": {"width": 4},
    "resnet20": {"width": 4},
    "resnet18": {"width": 8},
}


def _models() -> Iterator[Case]:
    for model in ("lenet", "lenet1989", *_NARROW):
        for name in ("bn", "mn") if model in _NARROW else NORMS:
            for training in (True, False) if name in ("bn", "mn") else (True,):

                def make(rng: np.random.Generator, dtype: str, model: str = model, name: str = name) -> Layer:
                    norm = norm_factory(name, dtype=dtype)
                    settings: dict[str, Any] = {"in_channels": 3, "norm": norm, "rng": rng, "dtype": dtype}
                    net: Layer = MODELS[model](7, **settings, **_NARROW.get(model, {}))
                    return net

                where = "" if training else ", inference"
                n = 2 if model in ("nin", "resnet20") else 6  # with many more values, some are always near a kink
                yield Case("models", f"{model} {name}{where}", subjects.layer(make, (n, 3, 32, 32), training))
