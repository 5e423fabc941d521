"""One rule for every constructor: whole numbers of any library, generators or seeds; the rest gets a sentence."""

import numpy as np
import pytest
from layer_runs import EACH_LIBRARY, parameters

from minidl import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    GroupNorm,
    LeNet,
    Linear,
    MaxPool2d,
    ModeGroupNorm,
    ModeNorm,
    norm_factory,
    threads,
    to_host,
)
from minidl.data import Loader, load_task
from minidl.layers.shortcut import ZeroPaddedShortcut
from minidl.models import ResNet20

WHOLE = {
    "Conv2d, channels": lambda n: Conv2d(n, n, 2),
    "Conv2d, kernel": lambda n: Conv2d(2, 3, n),
    "Conv2d, kernel of two": lambda n: Conv2d(2, 3, (n, 2)),
    "Conv2d, stride": lambda n: Conv2d(2, 3, 4, stride=n),
    "Conv2d, padding": lambda n: Conv2d(2, 3, 4, padding=(1, n)),
    "Linear": lambda n: Linear(n, 2),
    "Linear, out": lambda n: Linear(2, n),
    "MaxPool2d": lambda n: MaxPool2d(n),
    "AvgPool2d, stride": lambda n: AvgPool2d(2, n),
    "BatchNorm": lambda n: BatchNorm(n),
    "GroupNorm": lambda n: GroupNorm(n, 12),
    "ModeNorm": lambda n: ModeNorm(4, n),
    "ModeGroupNorm": lambda n: ModeGroupNorm(4, n),
    "norm_factory": lambda n: norm_factory("mn", modes=n)(4, np.random.default_rng(0)),
    "norm_factory, one each": lambda n: norm_factory("mgn", modes=[n])(4, np.random.default_rng(0)),
    "ZeroPaddedShortcut": lambda n: ZeroPaddedShortcut(4, n),
    "threads": lambda n: with_threads(n),
    "Loader": lambda n: loader(batch_size=n),
    "Loader, prefetch": lambda n: loader(prefetch=n),
}
DRAWN = {
    "Conv2d": lambda rng: Conv2d(3, 4, 2, rng=rng),
    "Linear": lambda rng: Linear(5, 4, rng=rng),
    "ModeNorm": lambda rng: ModeNorm(4, 3, rng=rng),
    "ModeGroupNorm": lambda rng: ModeGroupNorm(4, 3, rng=rng),
    "LeNet": lambda rng: LeNet(10, norm=norm_factory("mn"), rng=rng),
    "ResNet20": lambda rng: ResNet20(10, rng=rng, width=4),
}


def loader(**changes):
    dataset = load_task("mnist", sample=True, progress=False).test
    return Loader(dataset, **{"batch_size": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "shuffle": False} | changes)


def with_threads(n):
    with threads(n):
        pass


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_a_whole_number_of_numpy_is_one(name, kind):
    WHOLE[name](kind(3))


NOT_WHOLE = [3.0, np.float64(3), True, np.True_, "3", None, [3], np.array(3)]
TAKEN = {"norm_factory": [3], "threads": None, "AvgPool2d, stride": None}  # what these take beside whole numbers


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in WHOLE for value in NOT_WHOLE if name not in TAKEN or value != TAKEN[name]],
)
def test_a_float_however_round_and_what_else_is_no_whole_number_is_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=r"must be a whole number.*; ") as error:
        WHOLE[name](value)
    assert "\n" not in str(error.value)


@EACH_LIBRARY
@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("kind", [int, np.int64])
@pytest.mark.parametrize("seed", [0, 42])
def test_a_seed_is_the_generator_of_that_seed(name, kind, seed):
    made, wanted = DRAWN[name](kind(seed)), DRAWN[name](np.random.default_rng(seed))
    for path, param in parameters(wanted).items():
        np.testing.assert_array_equal(to_host(parameters(made)[path]), to_host(param))


def test_dropout_and_the_loader_take_a_seed_too():
    x = np.ones((5, 7))
    np.testing.assert_array_equal(Dropout(0.4, rng=0)(x), Dropout(0.4, rng=np.random.default_rng(0))(x))
    seeded, drawn = loader(shuffle=True, rng=0), loader(shuffle=True, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(next(iter(seeded))[0], next(iter(drawn))[0])


@pytest.mark.parametrize("rng", [1.5, "0", -1, True, np.random.RandomState(0)])
@pytest.mark.parametrize("make", [*DRAWN.values(), lambda rng: Dropout(rng=rng), lambda rng: loader(rng=rng)])
def test_what_is_neither_generator_nor_seed_is_refused_with_the_cure(make, rng):
    with pytest.raises(ValueError, match=r"rng must be a generator or a seed, got .*; pass np.random.default_rng\(0\)"):
        make(rng)
