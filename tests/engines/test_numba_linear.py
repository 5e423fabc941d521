"""The fully connected layer, compiled for few samples and cut in two for many, against its written functions."""

from typing import Any

import numpy as np
import pytest
from tolerance import assert_close, terms

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")

from engines.helped import helpers
from minidl import Linear, threads, use_backend
from minidl.arguments import arithmetic
from minidl.engine import NUMBA
from minidl.engines.numba import linear as compiled
from minidl.layers.linear import linear, linear_backward

Array = Any
FEW = [1, 2, 3, 4, 5, 7, 8]
SIZES = [(70, 60), (67, 63), (5, 1000), (1000, 5)]  # outputs and inputs, each at least as many weights as are compiled


def draw(n: int, outputs: int, inputs: int, dtype: str) -> tuple[Array, Array, Array, Array]:
    """Return x with the batch innermost, weight, bias and dy."""
    rng = np.random.default_rng(n)
    shapes = (inputs, n), (outputs, inputs), (outputs,), (outputs, n)
    x, weight, bias, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x.T, weight, bias, dy.T


@pytest.fixture
def counted(monkeypatch):
    """The names of the compiled functions that were called."""
    calls = []
    for name in ("_forward", "_weight_gradient", "_input_gradient"):
        function = getattr(compiled, name)
        monkeypatch.setattr(compiled, name, lambda *a, f=function, n=name: (calls.append(n), f(*a))[1])
    return calls


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", FEW)
def test_few_samples_give_the_written_values(n, size, dtype, counted):
    x, weight, bias, dy = draw(n, *size, dtype)
    NUMBA(linear)  # twins are registered at the engine's first use
    with use_backend("numba"):
        y, got = compiled.forward(x, weight, bias), compiled.linear_backward(dy, x, weight)
    assert counted == ["_forward", "_weight_gradient", "_input_gradient"]
    exact = [array.astype("float64") for array in (dy, x, weight, bias)]
    want = linear_backward(*exact[:3])
    a = [np.abs(array).astype("float64") for array in (dy, x, weight)]
    sizes = a[0] @ a[2], a[0].T @ a[1], a[0].sum(axis=0)  # of the terms
    counts = size[0], n, n  # of the terms: as many products are rounded, and as many sums, in both results
    assert_close(y, linear(*exact[1:]), terms(4 * size[1] + 2, a[1] @ a[2].T + np.abs(bias), dtype))
    for one, other, count, magnitude in zip(got, want, counts, sizes, strict=True):
        assert (one.shape, one.dtype) == (other.shape, dtype)
        assert_close(one, other, terms(4 * count, magnitude, dtype))


@pytest.mark.parametrize("n", FEW)
def test_few_samples_without_a_bias_and_without_dx(n):
    x, weight, _, dy = draw(n, 70, 60, "float32")
    tolerance = terms(4 * 60, np.abs(x).astype("float64") @ np.abs(weight.T), "float32")
    exact = linear(x.astype("float64"), weight.astype("float64"), None)
    assert_close(compiled.forward(x, weight, None), exact, tolerance)
    assert compiled.linear_backward(dy, x, weight, needs_dx=False)[0] is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_sample_and_spreads_as_in_the_written_functions(value):
    x, weight, bias, dy = draw(5, 70, 60, "float32")
    x, dy = x.copy(), dy.copy()
    x[3, 7] = dy[1, 9] = value
    with arithmetic():
        pairs = [(compiled.forward(x, weight, bias), linear(x, weight, bias))]
        pairs += zip(compiled.linear_backward(dy, x, weight), linear_backward(dy, x, weight), strict=True)
    for got, want in pairs:
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
        np.testing.assert_array_equal(got[~np.isfinite(want)], want[~np.isfinite(want)])


@pytest.mark.parametrize("n", [*FEW, 9, 16, 33, 300])
def test_the_bits_are_the_same_on_any_number_of_threads(n):
    x, weight, _, dy = draw(n, 121, 403, "float32")

    def both() -> list[Array]:
        layer = Linear(403, 121, rng=np.random.default_rng(0))
        layer.params["weight"][...] = weight
        return [layer(x), layer.backward(dy), layer.grads["weight"], layer.grads["bias"]]

    with use_backend("numba"):
        with threads(1):
            want = both()
        for others in (1, 2):
            with helpers(others):
                for one, other in zip(both(), want, strict=True):
                    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n", [4, 64])
@pytest.mark.parametrize("step", [2, -1])
def test_a_bias_that_is_a_view_with_steps_counts_as_its_copy(n, step):
    x, weight, bias, _ = draw(n, 70, 60, "float32")
    view = np.repeat(bias, 2)[::2] if step == 2 else bias[::-1].copy()[::-1]
    NUMBA(linear)
    with use_backend("numba"):
        np.testing.assert_array_equal(compiled.forward(x, weight, view), compiled.forward(x, weight, bias))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("n", [1, 5, 33, 300])
def test_the_order_in_memory_of_x_and_dy_changes_no_bit(n: int, backend: str) -> None:
    x, _, _, dy = draw(n, 129, 513, "float32")
    results = []
    for own_x, own_dy in ((x, dy), (np.ascontiguousarray(x), dy), (x, np.ascontiguousarray(dy)), (x[::-1][::-1], dy)):
        layer = Linear(513, 129, rng=0)
        with use_backend(backend):
            results.append((layer(own_x), layer.backward(own_dy), layer.grads["weight"], layer.grads["bias"]))
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(found, expected)
