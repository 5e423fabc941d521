"""The compiled matrix product, for every shape and memory order, against NumPy's in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import assert_close, terms

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")

from engines.helped import helpers
from minidl import threads
from minidl.engines.numba import matmul as compiled


@pytest.fixture
def of_any_size(monkeypatch):
    """Have products of every size compiled; how many were."""
    done = []
    monkeypatch.setattr(compiled, "_WORTH", 1)
    multiply = compiled._multiply
    monkeypatch.setattr(compiled, "_multiply", lambda *arguments: (done.append(1), multiply(*arguments)))
    return done


def draw(seed, *shape, dtype="float32", order="C"):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype, order=order)


def product(a, b, bias):
    out = np.full((len(a), b.shape[1]), np.nan, a.dtype)
    compiled.matmul(a, b, bias, out)
    return out


SIZES = st.one_of(st.integers(16, 19), st.integers(30, 34), st.integers(223, 226), st.integers(447, 450))


@settings(max_examples=150, deadline=None)
@given(
    rows=SIZES,
    taps=SIZES,
    columns=st.integers(1, 70),
    dtype=st.sampled_from(["float32", "float64"]),
    orders=st.sampled_from(["CC", "CF", "FC", "FF"]),
    biased=st.booleans(),
    others=st.integers(0, 2),
)
def test_a_product_is_the_sum_over_its_taps_and_the_bias(rows, taps, columns, dtype, orders, biased, others):
    a, b = draw(1, rows, taps, dtype=dtype, order=orders[0]), draw(2, taps, columns, dtype=dtype, order=orders[1])
    bias = draw(3, rows, dtype=dtype) if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_WORTH", 1)
        with threads(1):
            got = product(a, b, bias)
        with helpers(others):
            np.testing.assert_array_equal(product(a, b, bias), got)
    want = a.astype("longdouble") @ b + (0 if bias is None else bias[:, None])
    size = abs(a.astype("float64")) @ abs(b) + (0 if bias is None else abs(bias)[:, None])
    assert_close(got, want.astype("float64"), terms(taps + 1, size, dtype))


def test_products_that_fit_are_compiled_and_those_of_blas_are_not(of_any_size):
    a, b = draw(1, 17, 33), draw(2, 33, 5)
    product(a, b, None)
    assert len(of_any_size) == 1
    for one, other in [
        (a[:, ::2], b[::2]),  # with gaps
        (a[:15], b),  # few rows
        (a[:, :15].copy(), b[:15]),  # few taps
        (a.astype("float16"), b.astype("float16")),
        (a.astype("complex64"), b.astype("complex64")),
    ]:
        np.testing.assert_array_equal(product(one, other, None), np.matmul(one, other))
    assert len(of_any_size) == 1


def test_a_large_product_is_blas_in_two_halves_of_the_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(compiled, "_FITS", 0)
    monkeypatch.setattr(compiled, "_WORTH_WAKING", 1)
    a, b, bias = draw(1, 17, 33), draw(2, 33, 40), draw(3, 17)
    with threads(1):
        want = product(a, b, bias)
    with threads(3):
        np.testing.assert_array_equal(product(a, b, bias), want)
    assert_close(
        want, a.astype("float64") @ b + bias[:, None], terms(34, abs(a) @ abs(b) + abs(bias)[:, None], "float32")
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("order", "CF")
def test_what_is_not_finite_stays_in_its_row_and_in_its_column(value, order, of_any_size):
    a, b = draw(1, 20, 40), draw(2, 40, 37, order=order)
    b[7, 33] = value
    got = product(a, b, None)
    assert not np.isfinite(got[:, 33]).any()
    assert np.isfinite(np.delete(got, 33, 1)).all()
    a[3, 5], b[7, 33] = value, 1
    got = product(a, b, None)
    assert not np.isfinite(got[3]).any()
    assert np.isfinite(np.delete(got, 3, 0)).all()
    assert len(of_any_size) == 2
