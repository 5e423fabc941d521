"""The compiled passes against the written functions: values, dtypes, strides, NaN and Inf, threads."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tolerance import assert_close, sums, terms

import minidl
from minidl import memory, parallel

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")

from engines.helped import helpers
from minidl import losses
from minidl.engines.numba import activation, loss, norm, optim, pool
from minidl.layers import activation as written_activation
from minidl.layers import pool as written_pool
from minidl.norm import moments as written_norm

Array = Any
SHAPES = [(5, 3, 7, 4), (1, 3, 5, 7), (4, 7, 37), (7, 4), (16, 3, 4, 5), (300, 2, 3), (3, 2, 97, 83)]


def draw(seed: int, *shape: int, dtype: str = "float32", mean: float = 0.5) -> Array:
    """Return normal numbers, the batch innermost in memory."""
    n, *rest = shape
    return memory.batch_first((np.random.default_rng(seed).standard_normal((*rest, n)) + mean).astype(dtype))


@pytest.fixture(params=["in one part", "in two parts"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums run over the pixels, or over two parts of them and then over the parts, as of many pixels."""
    if request.param == "in two parts":
        monkeypatch.setattr(norm, "_MANY", 2)
        monkeypatch.setattr(norm, "_LARGE", 1)


def passes(module: Any, x: Array, dy: Array) -> dict[str, Array]:
    """Run the four heavy passes of a norm; the small arrays between them are random."""
    s, u, dm, dv = (draw(seed, *x.shape[:2], dtype="float64") for seed in (3, 4, 5, 6))
    m, v, centred = module.moments(x)
    y = module.scale_shift(centred, s, u, x.dtype)
    ds, du = module.scale_shift_sums(dy, centred)
    dx = module.scale_shift_backward(dy, centred, s, du, dm, dv)
    return {"m": m.value(), "v": v, "y": y, "ds": ds, "du": du, "dx": dx}


def close(found: dict[str, Array], expected: dict[str, Array], tolerance: float) -> None:
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].dtype == value.dtype, name
        scale = max(1.0, float(np.abs(value).max()))
        assert_close(found[name], value, tolerance * scale, name)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_passes_of_a_norm_give_what_the_written_ones_give(shape: tuple[int, ...], dtype: str) -> None:
    """The exact ones, in float64: float16 is computed in float32 and rounded at the end."""
    x, dy = draw(1, *shape, dtype=dtype), draw(2, *shape, dtype=dtype, mean=-0.3)
    exact = passes(written_norm, x.astype("float64"), dy.astype("float64"))
    # float16 is rounded once; the errors of a sum of P terms are random and grow as the root of P
    operations = 4 if dtype == "float16" else 16 + 4 * int(np.sqrt(np.prod(shape[2:])))
    for name in ("y", "dx"):
        exact[name] = exact[name].astype(dtype)
    found, tolerance = passes(norm, x, dy), terms(operations, 1.0, dtype)
    # in few rows deviations are added, in float64, as those from the first pixel, and its own taken off at the end
    off = (x.reshape(*shape[:2], -1)[:, :, 0].astype("float64") - exact["m"]) ** 2
    close(found, {"v": exact.pop("v")}, tolerance + terms(operations, off.max()))
    close(found, exact, tolerance)


@pytest.mark.usefixtures("cut")
def test_strides_do_not_matter() -> None:
    x, dy = draw(1, 6, 4, 8, 10), draw(2, 6, 4, 8, 10)
    expected = passes(norm, x[::2, ::-1, ::2], dy[::2, ::-1, ::2])
    found = passes(norm, np.ascontiguousarray(x[::2, ::-1, ::2]), np.ascontiguousarray(dy[::2, ::-1, ::2]))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def blocks(size: Any) -> Any:
    """Return what sums of that size may err by: in float32 within blocks of some hundred values, then in float64."""
    return sums(512, size, "float32")


@pytest.mark.parametrize("mean", [1e3, 1e5])
def test_a_large_image_with_a_large_mean_keeps_its_variance(mean: float) -> None:
    """Four million pixels: float32 sums from end to end are off by more than the deviations themselves."""
    noise = np.random.default_rng(0).standard_normal((1, 2048, 2048, 1))
    x = memory.batch_first((noise + mean).astype("float32"))
    m, v, centred = norm.moments(x)
    exact = x.astype("float64")
    spread = exact - exact.mean()
    assert_close(v[0, 0], exact.var(), blocks(exact.var()))
    assert_close(m.value()[0, 0], exact.mean(), blocks(np.abs(spread).mean()) + sums(2 * x.size, mean))
    y = norm.scale_shift(centred, 1 / np.sqrt(v), np.zeros((1, 1)), x.dtype)
    assert_close(y.astype("float64").std(), 1.0, blocks(1.0))
    ds, du = norm.scale_shift_sums(y, centred)
    wide = y.astype("float64")
    assert_close(ds[0, 0], (wide * spread).sum(), blocks(np.abs(wide * spread).sum()))
    assert_close(du[0, 0], wide.sum(), blocks(np.abs(wide).sum()))


@pytest.mark.usefixtures("cut")
def test_the_variance_does_not_suffer_from_a_first_block_unlike_the_rest() -> None:
    x = draw(1, 3, 2, 400, 40, mean=0)
    x[:, :, :20] += 1e4
    _, v, _ = norm.moments(x)
    want = x.astype("float64").var(axis=(2, 3))
    assert_close(v, want, blocks(want))


@pytest.mark.usefixtures("cut")
def test_squares_may_be_beyond_the_range_of_float32() -> None:
    x = draw(1, 3, 2, 40, 40) * np.float32(1e25)
    _, v, _ = norm.moments(x)
    want = x.astype("float64").var(axis=(2, 3))
    assert_close(v, want, blocks(want))


@pytest.mark.usefixtures("cut")
def test_sums_may_be_beyond_the_range_of_float32_where_nothing_varies() -> None:
    x = np.full((3, 2, 40, 40), 2.0**127, np.float32)
    mean, v, _ = norm.moments(x)
    np.testing.assert_array_equal(mean.value(), x[:, :, 0, 0])
    assert not v.any()


def test_one_value_has_no_variance() -> None:
    _, v, _ = norm.moments(draw(1, 5, 3))
    assert not v.any()


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 150, 298])
def test_nan_and_infinity_reach_what_they_reach_in_the_written_passes(value: float, where: int) -> None:
    x, dy = draw(1, 5, 3, 299), draw(2, 5, 3, 299)
    for spoilt in (x, dy):
        spoilt[2, 1, where] = value
        with np.errstate(invalid="ignore"):
            found, expected = passes(norm, x, dy), passes(written_norm, x, dy)
        for name in ("v", "y", "ds", "du", "dx"):
            np.testing.assert_array_equal(np.isfinite(found[name]), np.isfinite(expected[name]), err_msg=name)


def same_for_any_number_of_threads(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTH", 1)
    results = []
    for n in (1, 2, 3):
        with minidl.threads(n):
            results.append([a.tobytes() for a in run()])
    assert results[0] == results[1] == results[2]


@pytest.mark.usefixtures("cut")
def test_helpers_do_not_change_a_bit_of_a_norm() -> None:
    x, dy = draw(1, 5, 7, 19, 8), draw(2, 5, 7, 19, 8)
    alone = passes(norm, x, dy)
    for n in (1, 2):
        with helpers(n):
            for name, value in passes(norm, x, dy).items():
                np.testing.assert_array_equal(value, alone[name], err_msg=name)


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, dy = draw(1, 5, 7, 6, 8), draw(2, 5, 7, 6, 8)
    same_for_any_number_of_threads(lambda: passes(norm, x, dy).values(), monkeypatch)

    def pools() -> list[Array]:
        window = ((3, 2), (2, 1), (1, 1))
        y, won = pool.max_pool(x, *window)
        z, places = pool.max_pool(x, (2, 2), (2, 2), (0, 0))
        mean = pool.avg_pool(x, *window)
        return [
            y,
            z,
            mean,
            pool.max_pool_backward(y, won, x.shape, *window),
            pool.max_pool_backward(z, places, x.shape, (2, 2), (2, 2), (0, 0)),
            pool.avg_pool_backward(y, x.shape, *window),
        ]

    same_for_any_number_of_threads(pools, monkeypatch)
    same_for_any_number_of_threads(lambda: [activation.relu(x), activation.relu_backward(dy, x)], monkeypatch)


WINDOWS = [
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((2, 3), (1, 2), (1, 0)),
    ((1, 1), (2, 2), (0, 0)),
    ((4, 4), (4, 4), (0, 0)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(3, 2, 7, 9), (1, 3, 4, 4), (17, 2, 5, 4), (32, 1, 8, 9)])
@pytest.mark.parametrize("window", WINDOWS)
def test_pooling_gives_what_the_written_one_gives(shape: tuple[int, ...], window: Any, dtype: str) -> None:
    """Small integers, so that windows hold equal values: the first one row by row takes the gradient."""
    x = np.random.default_rng(1).integers(-3, 3, shape).astype(dtype)
    y, won = pool.max_pool(x, *window)
    expected, places = written_pool.max_pool(x, *window)
    np.testing.assert_array_equal(y, expected)
    dy = draw(2, *y.shape, dtype=dtype)
    # each of up to 16 terms below 4; float16 is summed in float32 or in itself, and rounded
    tolerance = sums(2 * (16 + 1), 16 * 4.0, dtype)
    close(
        {
            "max": pool.max_pool_backward(dy, won, shape, *window),
            "mean": pool.avg_pool(x, *window),
            "of the mean": pool.avg_pool_backward(dy, shape, *window),
        },
        {
            "max": written_pool.max_pool_backward(dy, places, shape, *window),
            "mean": written_pool.avg_pool(x, *window),
            "of the mean": written_pool.avg_pool_backward(dy, shape, *window),
        },
        tolerance,
    )


@pytest.mark.parametrize("window", WINDOWS[:2])
def test_the_largest_of_a_window_with_nan_is_nan(window: Any) -> None:
    for place in range(4):
        x = draw(1, 33, 2, 4, 4)
        x[3, 1, place // 2, place % 2] = np.nan
        x[4, 1, place // 2, place % 2] = np.inf
        y, _ = pool.max_pool(x, *window)
        np.testing.assert_array_equal(y, written_pool.max_pool(x, *window)[0])


def test_a_window_of_minus_infinity_sends_its_gradient_to_a_pixel() -> None:
    x = np.full((2, 1, 2, 2), -np.inf, np.float32)
    y, won = pool.max_pool(x, (3, 3), (1, 1), (1, 1))
    assert pool.max_pool_backward(np.ones_like(y), won, x.shape, (3, 3), (1, 1), (1, 1)).sum() == y.size


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(3, 5), (128, 2, 9, 8), (0, 3), (2, 3, 0, 4)])
def test_relu_gives_what_the_written_one_gives(shape: tuple[int, ...], dtype: str) -> None:
    x, dy = draw(1, *shape, dtype=dtype, mean=0), draw(2, *shape, dtype=dtype)
    if x.size:
        x.flat[:3] = np.nan, np.inf, -np.inf
        dy.flat[3] = np.nan
    y = activation.relu(x)
    np.testing.assert_array_equal(y, written_activation.relu(x))
    np.testing.assert_array_equal(activation.relu_backward(dy, y), written_activation.relu_backward(dy, y))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(1, 3), (5, 7), (130, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_written_one(shape: tuple[int, int], dtype: str, smoothing: float) -> None:
    logits = draw(1, *shape, dtype=dtype) * 3
    for labels in (np.random.default_rng(2).integers(0, shape[1], shape[0]), np.zeros(shape[0], np.uint8)):
        expected, p = losses.softmax_cross_entropy(logits, labels, smoothing)
        found, q = loss.softmax_cross_entropy(logits, labels, smoothing)
        assert type(found) is type(expected)
        wide = dtype if dtype != "float16" else "float32"  # in which float16 is computed
        tolerance = terms(2 * (sum(shape) + 8), np.abs(logits).max() + 1, wide)
        assert_close(found, expected, tolerance, "the loss")
        close(
            {"p": q, "dlogits": loss.softmax_cross_entropy_backward(q, labels, smoothing)},
            {"p": p, "dlogits": losses.softmax_cross_entropy_backward(p, labels, smoothing)},
            tolerance,
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_loss_is_not_finite_where_the_written_one_is_not(value: float) -> None:
    logits, labels = draw(1, 5, 4), np.arange(5) % 4
    logits[2, 1] = value
    with np.errstate(all="ignore"):
        expected, p = losses.softmax_cross_entropy(logits, labels)
        found, q = loss.softmax_cross_entropy(logits, labels)
    np.testing.assert_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(p)
    np.testing.assert_array_equal(np.isfinite(q), finite)
    assert_close(q[finite], p[finite], terms(2 * (4 + 8), 8.0, "float32"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "settings", [(0.0, 0.0, False), (0.9, 0.0, False), (0.9, 0.3, True), (0.0, 0.3, False), (0.7, 0.2, False)]
)
def test_a_step_of_the_optimiser_is_the_written_one(settings: tuple[float, float, bool], dtype: str) -> None:
    momentum, decay, nesterov = settings
    layer = minidl.Linear(5, 7, rng=np.random.default_rng(0), dtype=dtype)
    written = minidl.SGD(layer, lr=0.3, momentum=momentum, weight_decay=decay, nesterov=nesterov)
    (flat,) = written._flats
    p, v = flat.params.copy(), flat.kept["velocity"].copy()
    for step in range(3):
        flat.grads[...] = draw(step, len(p), dtype=dtype)
        written.step()
        optim.sgd(p, flat.grads, v, flat.scratch, 0.3, momentum, decay, nesterov)
    close({"p": p, "v": v}, {"p": flat.params, "v": flat.kept["velocity"]}, terms(3 * 12, 4.0, dtype))  # of three steps


COMPILE = """
import numpy as np
from minidl.engines.numba import activation, compile
compile._NOTICED = 0
y = activation.relu(np.ones((2, 3), np.float32))
activation.relu_backward(y, y)
print(sum(activation._relu.stats.cache_misses.values()))
"""


def run(cache: Path) -> tuple[str, str]:
    """Compile two functions in a process of its own; return its output, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_compiling_is_announced_once_and_kept(tmp_path: Path) -> None:
    misses, said = run(tmp_path)
    assert misses == "1"
    assert said.count("minidl: compiling") == 1
    assert run(tmp_path) == ("0", "")
