"""The compiled convolution gives the written one's values by each of its ways, whatever the sizes and the memory.

The written functions in float64 are what is right. The tolerance counts roundings of the size of the terms that each
value sums, `TRANSFORMS` for each tap. A tile's outputs share its inputs, hence their largest terms.
"""

import importlib

import numpy as np
import pytest
from layer_runs import draw
from tolerance import assert_close, sums, terms

from minidl import threads
from minidl.layers import conv

pytest.importorskip("numba")

from minidl.engines.numba import conv as compiled
from minidl.engines.numba import direct, tiles
from minidl.engines.numba.direct import tiles as groups

TRANSFORMS = 4  # a tile errs as a direct convolution does or twice as much (winograd.py): four times the roundings

# N, C, H, W; O, kh, kw; stride; padding; whether tiles are taken forward, and for the gradient of the weight
DIRECT = {
    "LeNet's first": ((4, 3, 32, 32), (6, 5, 5), (1, 1), (0, 0)),
    "LeNet's second": ((16, 6, 14, 14), (16, 5, 5), (1, 1), (0, 0)),
    "one sample": ((1, 3, 7, 9), (5, 3, 2), (1, 1), (1, 2)),
    "two samples": ((2, 4, 5, 7), (10, 3, 3), (1, 1), (1, 1)),
    "stride": ((3, 4, 9, 8), (7, 3, 3), (2, 2), (1, 1)),
    "stride in one direction": ((5, 3, 9, 8), (4, 3, 3), (1, 2), (2, 0)),
    "stride beyond the kernel": ((2, 3, 9, 8), (3, 2, 1), (3, 4), (2, 0)),
    "padding beyond the kernel": ((2, 3, 4, 5), (3, 3, 3), (1, 2), (4, 4)),
    "pointwise": ((3, 200, 4, 5), (9, 1, 1), (1, 1), (0, 0)),
    "pointwise, stride": ((19, 16, 8, 8), (32, 1, 1), (2, 2), (0, 0)),
    "several products per value": ((17, 50, 7, 6), (11, 5, 5), (1, 1), (2, 2)),
    "several bands": ((130, 30, 9, 8), (10, 5, 5), (2, 1), (2, 2)),
    "several bands, rows of several chunks": ((311, 7, 12, 9), (13, 3, 4), (1, 1), (1, 0)),
    "too few channels for tiles": ((32, 3, 8, 8), (16, 3, 3), (1, 1), (1, 1)),
    "too few samples for tiles": ((15, 9, 8, 8), (9, 3, 3), (1, 1), (1, 1)),
}
TILED = {
    "whole tiles": ((16, 8, 8, 8), (8, 3, 3), (1, 1), (1, 1)),
    "broken tiles": ((48, 9, 7, 9), (11, 3, 3), (1, 1), (1, 1)),
    "no padding": ((32, 16, 6, 5), (10, 3, 3), (1, 1), (0, 0)),
    "much padding": ((16, 8, 3, 4), (9, 3, 3), (1, 1), (3, 2)),
    "samples that fill no vector": ((37, 10, 9, 8), (12, 3, 3), (1, 1), (1, 1)),
    "more samples than a unit": ((320, 24, 4, 4), (20, 3, 3), (1, 1), (1, 1)),
    "many channels": ((16, 70, 8, 6), (61, 3, 3), (1, 1), (1, 1)),
    "many channels and tiles": ((128, 65, 9, 8), (64, 3, 3), (1, 1), (1, 1)),
}
EACH = DIRECT | TILED


def arrays(name, dtype, seed=1):
    """Return dy, x, weight and bias of a row, in this dtype, the batch innermost in memory."""
    shape, (o, *kernel), stride, padding = EACH[name]
    weight, bias = draw(seed + 1, o, shape[1], *kernel), draw(seed + 2, o)
    size = [conv.output_size(*four) for four in zip(shape[2:], kernel, stride, padding, strict=True)]
    dy = draw(seed + 3, shape[0], o, *size, mean=0.0)
    return [batch_innermost(a).astype(dtype) if a.ndim == 4 else a.astype(dtype) for a in (dy, draw(seed, *shape))] + [
        weight.astype(dtype),
        bias.astype(dtype),
    ]


def batch_innermost(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


def both(pair, dy, x, weight, bias, stride, padding):
    """Return y, dx, dweight and dbias by a pair of functions."""
    y = pair.conv2d(x, weight, bias, stride, padding)
    return dict(
        zip(["y", "dx", "dweight", "dbias"], [y, *pair.conv2d_backward(dy, x, weight, stride, padding)], strict=True)
    )


def check(name, dtype, found, inputs):
    check_against_the_written(found, dtype, inputs, *EACH[name][2:])


def check_against_the_written(found, dtype, inputs, stride, padding):
    dy, x, weight, bias = (a.astype("float64") for a in inputs)
    want = both(conv, dy, x, weight, bias, stride, padding)
    sizes = both(conv, *map(np.abs, (dy, x, weight, bias)), stride, padding)
    taps = {"y": weight[0].size, "dx": weight[:, 0].size, "dweight": dy[:, 0].size, "dbias": dy[:, 0].size}
    for key, value in found.items():
        assert value.dtype == dtype, key
        assert value.shape == want[key].shape, key
        assert_close(value, want[key], sums(TRANSFORMS * taps[key], sizes[key].max(initial=0), dtype), key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EACH)
def test_it_gives_the_values_of_the_written_function(name, dtype):
    inputs = arrays(name, dtype)
    check(name, dtype, both(compiled, *inputs, *EACH[name][2:]), inputs)


@pytest.mark.parametrize("name", EACH)
def test_each_row_takes_the_way_it_is_there_for(name, monkeypatch):
    ways = []
    for module, function in ((direct, "forward"), (tiles, "correlation"), (direct, "input_gradient")):
        one = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *a, f=function, o=one: ways.append(f) or o(*a))
    inputs = arrays(name, "float32")
    both(compiled, *inputs, *EACH[name][2:])
    assert ways == (["correlation", "correlation"] if name in TILED else ["forward", "input_gradient"])


@pytest.mark.parametrize(
    "order", [np.ascontiguousarray, np.asfortranarray, lambda x: x[::-1], lambda x: np.repeat(x, 2, 3)[..., ::2]]
)
@pytest.mark.parametrize("name", ["LeNet's second", "stride", "broken tiles"])
def test_any_memory_order_will_do(name, order):
    inputs = arrays(name, "float32")
    dy, x, weight, bias = inputs[0], inputs[1], np.asfortranarray(inputs[2]), inputs[3]
    found = both(compiled, order(dy), order(x), weight, bias, *EACH[name][2:])
    check(name, "float32", found, [order(dy), order(x), weight, bias])


def test_arrays_that_cannot_be_written_to_will_do():
    inputs = arrays("whole tiles", "float32")
    for a in inputs:
        a.flags.writeable = False
    check("whole tiles", "float32", both(compiled, *inputs, (1, 1), (1, 1)), inputs)


def test_a_bias_of_another_dtype_and_none():
    dy, x, weight, bias = arrays("whole tiles", "float32")
    y = compiled.conv2d(x, weight, bias.astype("float16"), (1, 1), (1, 1))
    want = compiled.conv2d(x, weight, None, (1, 1), (1, 1)) + bias.astype("float16")[:, None, None]
    size = conv.conv2d(np.abs(x), np.abs(weight), np.abs(bias), (1, 1), (1, 1)).max()
    assert_close(y, want, terms(4, size, "float32"))  # the bias is added first in one, and last in the other
    dx, dweight, dbias = compiled.conv2d_backward(dy, x, weight, (1, 1), (1, 1), False, False)
    assert dx is None
    assert dbias is None
    np.testing.assert_array_equal(dweight, compiled.conv2d_backward(dy, x, weight, (1, 1), (1, 1))[1])


@pytest.mark.parametrize("name", EACH)
def test_any_number_of_threads_gives_the_same_bits(name):
    inputs = arrays(name, "float32")
    with threads(1):
        want = both(compiled, *inputs, *EACH[name][2:])
    for n in (2, 3):
        with threads(n):
            for key, value in both(compiled, *inputs, *EACH[name][2:]).items():
                np.testing.assert_array_equal(value, want[key], key)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("where", [(0, 0, 0, 0), (3, 1, 2, 3), (15, 7, 5, 4)])
@pytest.mark.parametrize(
    "name", ["LeNet's second", "whole tiles", "more samples than a unit", "stride in one direction"]
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_what_is_not_finite_stays_in_the_windows_that_hold_it(name, where, bad):
    """Also numbers so large that a tile's sums of them overflow, where the convolution's do not."""
    stride, padding = EACH[name][2:]
    dy, x, weight, bias = arrays(name, "float32")
    at = tuple(min(i, size - 1) for i, size in zip(where, x.shape, strict=True))
    there = tuple(min(i, size - 1) for i, size in zip(where, dy.shape, strict=True))
    weight /= 64
    for of, place, keys in ((x, at, ("y", "dweight")), (dy, there, ("dx", "dweight", "dbias"))):
        kept, of[place] = of[place].copy(), bad
        want, found = (both(pair, dy, x, weight, bias, stride, padding) for pair in (conv, compiled))
        for key in keys:
            np.testing.assert_array_equal(np.isfinite(found[key]), np.isfinite(want[key]), key)
        of[place] = kept


@pytest.mark.parametrize("shape", [(0, 9, 8, 8), (16, 9, 1, 1), (5, 9, 2, 1)])
def test_no_samples_and_the_smallest_images(shape):
    x, weight, bias = (
        draw(1, *shape).astype("float32"),
        draw(2, 8, 9, 3, 3).astype("float32"),
        draw(3, 8).astype("float32"),
    )
    y = compiled.conv2d(x, weight, bias, (1, 1), (1, 1))
    assert y.shape == (shape[0], 8, *shape[2:])
    found = {"y": y} | dict(
        zip(("dx", "dweight", "dbias"), compiled.conv2d_backward(y, x, weight, (1, 1), (1, 1)), strict=True)
    )
    check_against_the_written(found, "float32", (y, x, weight, bias), (1, 1), (1, 1))


@pytest.mark.parametrize(
    "name", ["LeNet's second", "several bands", "several bands, rows of several chunks", "broken tiles"]
)
def test_what_a_workspace_held_before_does_not_matter(name, monkeypatch):
    inputs = arrays(name, "float32")
    want = both(compiled, *inputs, *EACH[name][2:])

    def spoilt(_, shape, dtype):
        return np.full(shape, np.iinfo(dtype).max if np.dtype(dtype).kind == "i" else 3e38, dtype)

    def added_up(sums, *sizes, one=direct.added_up):
        assert np.isfinite(sums).all()  # also those of the rows that fill a group up
        return one(sums, *sizes)

    for module in (direct, tiles):
        monkeypatch.setattr(module, "added_up", added_up)
    monkeypatch.setattr(direct, "scratch", spoilt)
    monkeypatch.setattr(tiles, "scratch", spoilt)
    for key, value in both(compiled, *inputs, *EACH[name][2:]).items():
        np.testing.assert_array_equal(value, want[key], key)


def test_the_workspace_of_one_convolution_does_not_leak_into_the_next():
    want = both(compiled, *arrays("broken tiles", "float32"), (1, 1), (1, 1))
    both(compiled, *arrays("several bands", "float32"), *EACH["several bands"][2:])
    both(compiled, *arrays("many channels", "float32"), (1, 1), (1, 1))
    for key, value in both(compiled, *arrays("broken tiles", "float32"), (1, 1), (1, 1)).items():
        np.testing.assert_array_equal(value, want[key], key)


def test_rows_are_covered_by_sixes_and_fours_with_the_least_waste():
    for rows in range(1, 70):
        sixes, fours = groups(rows)
        assert rows <= 6 * sixes + 4 * fours <= rows + (0 if rows % 2 == 0 and rows > 2 else 3)


@pytest.mark.parametrize("n", [32, 128, 160])
@pytest.mark.parametrize(("channels", "image"), [(512, 2), (512, 4), (256, 8), (64, 8), (16, 32)])
def test_a_weight_gradient_by_tiles_has_work_for_two_threads(channels, image, n):
    plan = importlib.import_module("minidl.engines.numba.tiles")._weight_plan(
        channels, (channels, image, image, n), (1, 1), (image, image)
    )
    assert plan.units >= plan.parts >= 2
