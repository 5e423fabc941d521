"""What every layer promises beside its mathematics: nothing changed, nothing shared, any memory order, any dtype."""

import numpy as np
import pytest
from layer_cases import CASES, EACH_CASE_AND_LIBRARY, each_with_each_library
from layer_check import poison
from layer_runs import EACH_LIBRARY, draw, gradients, host, parameters, run
from tolerance import assert_close, terms

from minidl import parallel, threads, to_device, to_host

EACH = pytest.mark.parametrize("name", CASES)
COMPOSED = ("Sequential", "Residual")


def whole(layer, x, dy):
    """Return y and all gradients as one dictionary of copies."""
    y, grads = run(layer, x, dy)
    return {"y": y.copy()} | {key: value.copy() for key, value in grads.items()}


def forward(layer, x):
    """Return y on the host."""
    return to_host(layer.forward(to_device(x)))


def backward(layer, dy):
    """Return dx on the host."""
    return to_host(layer.backward(to_device(dy)))


def kept_gradients(layer):
    """Return copies of what backward added, on the host."""
    return {key: host(gradient) for key, gradient in gradients(layer).items()}


def same(got, want, what=""):
    for key in want:
        np.testing.assert_array_equal(got[key], want[key], err_msg=f"{key} {what}", strict=True)


def orders(x):
    """Yield the same values in other memory: (what, array)."""
    yield "Fortran", np.asfortranarray(x)
    yield "batch innermost", np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    yield "channels innermost", np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    twice = np.full([2 * size for size in x.shape], np.nan, x.dtype)
    strided = twice[(slice(None, None, 2),) * x.ndim]
    strided[...] = x
    yield "strided", strided
    backwards = np.ascontiguousarray(x[(slice(None, None, -1),) * x.ndim])[(slice(None, None, -1),) * x.ndim]
    yield "backwards", backwards
    read_only = x.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only
    raw = np.empty(x.nbytes + 1, np.uint8)[1:]
    unaligned = np.ndarray(x.shape, x.dtype, raw)
    unaligned[...] = x
    yield "unaligned", unaligned


@EACH_CASE_AND_LIBRARY
def test_backward_before_forward_is_an_error_that_says_so(name):
    layer, (x, dy) = CASES[name].layer(), CASES[name].arrays()
    with pytest.raises(RuntimeError, match=r"^\w+\.backward: forward must come first, and each forward allows one"):
        backward(layer, dy)
    forward(layer, x)
    backward(layer, dy)
    with pytest.raises(RuntimeError, match=r"^\w+\.backward: forward must come first, and each forward allows one"):
        backward(layer, dy)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(COMPOSED)])
def test_the_error_of_backward_names_the_layer(name):
    layer = CASES[name].layer()
    with pytest.raises(RuntimeError, match=f"^{type(layer).__name__}.backward: "):
        layer.backward(CASES[name].arrays()[1])


@EACH_CASE_AND_LIBRARY
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_neither_x_nor_dy_nor_a_parameter_is_changed(name, training):
    layer, (x, dy) = CASES[name].layer(training=training), CASES[name].arrays()
    x, dy = to_device(x), to_device(dy)
    before = [host(a) for a in (x, dy, *parameters(layer).values())]
    layer.forward(x)
    layer.backward(dy)
    for array, value in zip((x, dy, *parameters(layer).values()), before, strict=True):
        np.testing.assert_array_equal(to_host(array), value)


@EACH_CASE_AND_LIBRARY
def test_gradients_accumulate(name):
    layer, (x, dy) = CASES[name].layer(), CASES[name].arrays()
    _, once = run(layer, x, dy)
    forward(layer, x)
    backward(layer, dy)
    for key, gradient in kept_gradients(layer).items():
        assert_close(gradient, 2 * once[key], terms(2, 2 * once[key]), key)  # the same sum, added to itself
    layer.zero_grad()
    assert not any(gradient.any() for gradient in gradients(layer).values())


@EACH_CASE_AND_LIBRARY
@pytest.mark.parametrize("of_params", ["float32", "float64", "float16"])
@pytest.mark.parametrize("of_x", ["float16", "float32", "float64"])
def test_the_dtype_of_y_is_that_of_x_and_the_dtype_of_dx_that_of_dy(name, of_x, of_params):
    layer, (x, dy) = CASES[name].layer(of_params), CASES[name].arrays(of_x)
    y, grads = run(layer, x, dy)
    assert y.dtype == x.dtype
    assert grads["dx"].dtype == dy.dtype
    for path, gradient in gradients(layer).items():
        assert gradient.dtype == of_params, path


@EACH_CASE_AND_LIBRARY
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_any_memory_order_gives_the_same_bits(name, training):
    case = CASES[name]
    x, dy = case.arrays("float32")
    want = whole(case.layer("float32", training), x, dy)
    for what, other in orders(x):
        got = whole(case.layer("float32", training), other, dy)
        same(got, want, what)
    for what, other in orders(dy):
        got = whole(case.layer("float32", training), x, other)
        same(got, want, what)


@EACH
def test_a_cotangent_with_stride_0_gives_the_bits_of_its_copy(name):
    case = CASES[name]
    x, dy = case.arrays("float32")
    row = np.broadcast_to(dy[:1], dy.shape)
    same(whole(case.layer("float32"), x, row), whole(case.layer("float32"), x, row.copy()))


@EACH
def test_an_input_with_stride_0_gives_the_bits_of_its_copy(name):
    case = CASES[name]
    x, dy = case.arrays("float32")
    row = np.broadcast_to(x[:1], x.shape)
    same(whole(case.layer("float32"), row, dy), whole(case.layer("float32"), row.copy(), dy))


@EACH_LIBRARY
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.in_eval])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_backward_fits_its_forward_whatever_mode_is_set_between(name, training):
    case = CASES[name]
    x, dy = case.arrays()
    want = whole(case.layer(training=training), x, dy)
    layer = case.layer(training=training)
    y = forward(layer, x)
    layer.train(not training)
    got = {"y": y, "dx": backward(layer, dy)} | kept_gradients(layer)
    same(got, want)
    assert not np.allclose(want["y"], whole(case.layer(training=not training), x, dy)["y"]), "the modes are the same"


@EACH_CASE_AND_LIBRARY
def test_a_layer_in_eval_mode_changes_no_state(name):
    layer, (x, dy) = CASES[name].layer(training=False), CASES[name].arrays()
    before = layer.state()
    run(layer, x, dy)
    same(layer.state(), before)


@EACH_CASE_AND_LIBRARY
def test_two_live_results_of_one_layer_do_not_share_memory(name):
    case = CASES[name]
    layer, (x, dy) = case.layer("float32"), case.arrays("float32")
    other_x, other_dy = x[::-1].copy(), dy[::-1].copy()
    y = layer.forward(to_device(x))
    dx = layer.backward(to_device(dy))
    kept_y, kept_dx = host(y), host(dx)
    other_y = layer.forward(to_device(other_x))
    other_dx = layer.backward(to_device(other_dy))
    results = [getattr(array, "_memory", array) for array in (y, dx, other_y, other_dx)]
    for i, a in enumerate(results):
        for b in results[:i]:
            assert not np.shares_memory(a, b)
    np.testing.assert_array_equal(to_host(y), kept_y)
    np.testing.assert_array_equal(to_host(dx), kept_dx)


@EACH_CASE_AND_LIBRARY
def test_what_forward_kept_survives_another_layer_of_the_same_sizes(name):
    case = CASES[name]
    x, dy = case.arrays("float32")
    want = whole(case.layer("float32"), x, dy)
    a, b = case.layer("float32"), case.layer("float32")
    y = a.forward(to_device(x))
    forward(b, x[::-1].copy())
    backward(b, dy[::-1].copy())
    same({"y": to_host(y), "dx": backward(a, dy)} | kept_gradients(a), want)


@EACH
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_no_memory_is_read_before_it_is_written(name, training, monkeypatch):
    case = CASES[name]
    x, dy = case.arrays("float32")
    want = whole(case.layer("float32", training), x, dy)
    poison(monkeypatch)
    same(whole(case.layer("float32", training), x, dy), want)


@EACH
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_any_number_of_threads_gives_the_same_bits(name, training, monkeypatch):
    case = CASES[name]
    x, dy = case.arrays("float32")
    want = whole(case.layer("float32", training), x, dy)
    monkeypatch.setattr(parallel, "_WORTH", 1)  # also where the work is too little to be shared
    for n in (2, 3):
        with threads(n):
            same(whole(case.layer("float32", training), x, dy), want, f"on {n} threads")


@EACH_CASE_AND_LIBRARY
def test_the_same_layer_gives_the_same_bits_each_time(name):
    case = CASES[name]
    x, dy = case.arrays("float32")
    same(whole(case.layer("float32"), x, dy), whole(case.layer("float32"), x, dy))


# A convolution, a linear layer or a network may leave float16 by its weighted sums, and rightly
WITHOUT_SUMS = [
    name
    for name, case in CASES.items()
    if "Conv" not in name
    and "Linear" not in name
    and not (name.startswith(COMPOSED) and case.layer("float16").num_params())
]


@EACH_LIBRARY
@pytest.mark.parametrize("name", WITHOUT_SUMS)
def test_float16_near_its_largest_value_stays_finite(name):
    case = CASES[name]
    layer = case.layer("float16")
    for path, p in parameters(layer).items():
        p[...] *= 1e-5 if path == "gate.weight" else 1  # else a mode may hold one channel, and y is 1/sqrt(eps) times x
    x = (6e4 * np.sign(draw(5, *case.shape, mean=0.0)) + draw(6, *case.shape, std=16.0)).astype("float16")
    if isinstance(layer, type(CASES["Dropout"].layer())):
        layer.eval()
    y = forward(layer, x)
    assert np.isfinite(y).all()
    assert np.isfinite(backward(layer, draw(7, *y.shape, mean=0.0, std=0.1).astype("float16"))).all()


ACROSS = ("BatchNorm", "ModeNorm", "Residual, identity")  # in training these mix the samples of a batch


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@each_with_each_library([name for name, case in CASES.items() if case.shape[0] > 1])
def test_a_nan_in_one_sample_reaches_that_sample_alone(name, training):
    case = CASES[name]
    layer, (x, dy) = case.layer(training=training), case.arrays()
    clean = whole(case.layer(training=training), x, dy)
    x[1].flat[0] = np.nan
    y = forward(layer, x)
    dx = backward(layer, dy)
    assert np.isnan(y[1]).any()
    if training and name.startswith(ACROSS):
        assert np.isnan(y).any(axis=tuple(range(1, y.ndim))).all()
        return
    others = np.arange(len(x)) != 1
    np.testing.assert_array_equal(y[others], clean["y"][others])
    np.testing.assert_array_equal(dx[others], clean["dx"][others])
