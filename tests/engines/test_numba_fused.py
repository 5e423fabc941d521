"""Layers that the compiled engine takes together, against the same layers one by one."""

import copy
from typing import Any

import numpy as np
import pytest
from tolerance import assert_close, sums

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")

from minidl import Layer, Linear, MaxPool2d, ReLU, Sequential, norm_factory, threads, use_backend
from minidl.engines.numba import fused
from minidl.engines.numba import norm as passes

Array = Any
BEHIND = {"ReLU": (), "pool, ReLU": ((2,),), "overlapping pool, ReLU": ((3, 2, 1),)}
SHAPES = [(1, 4, 6, 4), (3, 4, 4, 10), (5, 4, 5, 7), (16, 4, 6, 8), (37, 4, 2, 2)]


@pytest.fixture(autouse=True)
def numba_backend():
    with use_backend("numba"):
        yield


@pytest.fixture(params=["in one part", "in two parts"])
def cut(request, monkeypatch):
    """Sums run over the pixels, or over two parts of them and then over the parts, as of many pixels."""
    if request.param == "in two parts":
        monkeypatch.setattr(passes, "_MANY", 2)
        monkeypatch.setattr(passes, "_LARGE", 1)


def network(norm: str, behind: str, dtype: str = "float32") -> Sequential:
    """Return a norm with weights that are not 1, some of them negative, and what is behind it."""
    rng = np.random.default_rng(0)
    one = norm_factory(norm, modes=2, dtype=dtype)(4, rng)
    one.params["weight"][...] = [0.7, -1.3, 2.1, -0.4]
    one.params["bias"][...] = [0.3, 0.2, -0.5, 0.1]
    return Sequential(one, *(MaxPool2d(*window) for window in BEHIND[behind]), ReLU())


def draw(seed: int, *shape: int, dtype: str = "float32") -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) + 0.3).astype(dtype)


def one_by_one(net: Sequential, x: Array, dy: Array | None = None) -> tuple[Array, Array, Sequential]:
    """Return y, dx and a copy of the network after its layers went alone."""
    net = copy.deepcopy(net)
    y = x
    for layer in net.layers:
        y = layer.forward(y)
    dx = draw(2, *y.shape, dtype=str(y.dtype)) if dy is None else dy
    for layer in reversed(net.layers):
        dx = layer.backward(dx)
    return y, dx, net


def went_together(net: Sequential) -> bool:
    return net.layers[0]._kept[1][1].behind is not None


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("behind", ["ReLU", "pool, ReLU"])
@pytest.mark.parametrize("norm", ["bn", "ln", "mn"])
def test_layers_together_give_what_they_give_one_by_one(norm, behind, shape, dtype):
    net = network(norm, behind, dtype)
    x = draw(1, *shape, dtype=dtype)
    want_y, want_dx, alone = one_by_one(net, x)
    y = net.forward(x)
    even = shape[2] % 2 == shape[3] % 2 == 0
    assert went_together(net) == (behind == "ReLU" or even)
    np.testing.assert_array_equal(y, want_y)  # to the last bit
    assert net.layers[0]._output_shape == x.shape
    dx = net.backward(draw(2, *y.shape, dtype=dtype))
    values = x.size // 4
    assert_close(dx, want_dx, 4 * sums(values, np.abs(want_dx).max(), dtype), "dx")
    for name, gradient in alone.layers[0].grads.items():
        size = np.abs(draw(2, *y.shape)).max() * max(1.0, np.abs(x).max()) * np.sqrt(values)
        assert_close(net.layers[0].grads[name], gradient, 4 * sums(values, size, dtype), name)


def test_layers_that_went_forward_together_go_backward_alone():
    net = network("bn", "pool, ReLU")
    x = draw(1, 5, 4, 6, 8)
    _, want, _ = one_by_one(net, x)
    y = net.forward(x)
    assert went_together(net)
    dx = draw(2, *y.shape)
    for layer in reversed(net.layers):
        dx = layer.backward(dx)
    np.testing.assert_array_equal(dx, want)


@pytest.mark.parametrize("behind", ["ReLU", "pool, ReLU"])
def test_a_dy_of_another_shape_is_refused_by_the_last_of_layers_that_went_together(behind):
    net = network("bn", behind)
    dy = draw(2, *net.forward(draw(1, 5, 4, 6, 8)).shape)
    assert went_together(net)
    for bad in (dy[..., :-1], dy[:1], dy[:, :1]):
        with pytest.raises(ValueError, match=r"^ReLU\.backward: dy must have the shape of y, \(5, 4, "):
            net.backward(bad)
    assert not net.layers[0].grads["weight"].any()
    net.layers[-1].backward(dy)  # then each alone
    if behind != "ReLU":
        with pytest.raises(ValueError, match=r"^MaxPool2d\.backward: dy must have the shape of y, \(5, 4, 3, 4\)"):
            net.layers[1].backward(dy[:1])
    with pytest.raises(ValueError, match=r"^BatchNorm\.backward: dy must have the shape of y, \(5, 4, 6, 8\)"):
        net.layers[0].backward(dy[:1])


def test_a_layer_that_went_forward_once_more_goes_backward_alone():
    net, x = network("bn", "ReLU"), draw(1, 5, 4, 6, 8)
    y = net.forward(x)
    other = net.layers[1].forward(np.ones_like(y))
    net.backward(np.ones_like(other))
    want = network("bn", "ReLU")
    want.forward(x)
    want.layers[0].backward(np.ones_like(y))
    np.testing.assert_array_equal(net.layers[0].grads["bias"], want.layers[0].grads["bias"])


def test_whoever_looks_at_a_layer_sees_its_arrays():
    net, seen = network("bn", "pool, ReLU"), []
    pool: Layer = net.layers[1]
    forward = pool.forward
    pool.forward = lambda x: seen.append(x.shape) or forward(x)
    net.forward(draw(1, 5, 4, 6, 8))
    assert seen == [(5, 4, 6, 8)]


@pytest.mark.parametrize("name", ["forward", "backward"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_method_that_is_put_in_the_place_of_a_classs_is_called_before_and_after_others_went_together(
    monkeypatch, index, name
):
    x = draw(1, 3, 4, 4, 6)
    for kinds in ("bn", "in"):  # a norm that has gone together with others, and one that has not
        net = network(kinds, "pool, ReLU")
        kind, seen = type(net.layers[index]), []
        if kinds == "bn":
            net.backward(net.forward(x))
        method = getattr(kind, name)
        with monkeypatch.context() as put:
            put.setattr(
                kind, name, lambda self, a, method=method, seen=seen: (seen.append(a.shape), method(self, a))[1]
            )
            net.backward(net.forward(x))
        assert len(seen) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_passes_through(bad):
    net = network("bn", "pool, ReLU")
    x = draw(1, 5, 4, 6, 8)
    x[1, 2, 3, 3] = bad
    y = net.forward(x)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(one_by_one(network("bn", "pool, ReLU"), x)[0]))
    assert not np.isfinite(y).all()
    clean = draw(1, 5, 4, 6, 8)
    y = net.forward(clean)
    dy = np.ones_like(y)
    dy[1, 2, 0, 0] = bad
    assert not np.isfinite(net.backward(dy)).all()


@pytest.mark.parametrize("behind", ["ReLU", "pool, ReLU"])
def test_the_number_of_threads_changes_no_bit(behind):
    found = []
    for count in (1, 2, 3):
        net = network("bn", behind)
        with threads(count):
            y = net.forward(draw(1, 64, 4, 96, 64))
            found.append((y, net.backward(draw(2, *y.shape)), net.layers[0].grads["weight"]))
    for other in found[1:]:
        for got, want in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(got, want)


def test_an_x_that_was_written_to_is_noticed():
    net, x = network("bn", "pool, ReLU"), draw(1, 5, 4, 6, 8)
    y = net.forward(x)
    x += 1
    with pytest.raises(RuntimeError, match="x must be as forward saw it"):
        net.backward(np.ones_like(y))


def test_layers_are_cut_into_those_that_go_together_and_the_rest():
    norm = type(network("bn", "ReLU").layers[0])
    kinds = (Linear, norm, ReLU, norm, MaxPool2d, ReLU, norm)
    assert fused._parts(kinds) == [(0, 1, False), (1, 3, True), (3, 6, True), (6, 7, False)]
