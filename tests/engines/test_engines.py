"""Every twin of every engine gives what the written function gives, on the table of layers, in any memory order.

The written functions, in float64, are what is right (tests/layers holds them against the reference); a twin may differ
by what rounding in its precision explains. What to run comes from `layer_cases.CASES`, where a new layer is one row,
and from two rows here for what is no layer. A twin that no row reaches is a failure.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from kernels import kernel_cases, needs
from layer_cases import CASES
from layer_runs import draw, host, parameters, run
from tolerance import assert_close, unit

from minidl import SGD, Adam, AdamW, Layer, Linear, SoftmaxCrossEntropy, engine, norm_factory, to_device, use_backend
from minidl.engine import CUDA, NUMBA, NUMPY, WRITTEN, Engine

Arrays = dict[str, np.ndarray]

ENGINES = {"numpy": NUMPY, "numba": NUMBA, "cupy": CUDA}  # by the backend that takes them
_OPERATIONS = 16  # roundings per value of a sum's square root: a twin's sums are in blocks or pairwise


class Noting(Engine):
    """An engine that notes which written functions its twins stood in for."""

    def __init__(self, of: Engine) -> None:
        self.name, self.package, self.twins, self.met = of.name, of.package, of.twins, set()

    def __call__(self, written: Callable[..., Any]) -> Callable[..., Any]:
        """Return the twin."""
        self.met.add(written)
        return super().__call__(written)


@contextmanager
def computing(name: str, by: Engine | None = None) -> Iterator[Noting]:
    """Compute with this backend, its engine noted, or another engine in its place."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "cupy":
            if needs.GXX.args[0]:
                pytest.skip(needs.GXX.kwargs["reason"])
            with kernel_cases.running(kernel_cases.Device()):
                yield _noted(patch, name, by)
        else:
            if name == "numba":
                pytest.importorskip("numba")
            with use_backend(name):
                yield _noted(patch, name, by)


def _noted(patch: pytest.MonkeyPatch, name: str, by: Engine | None) -> Noting:
    engine.engine(to_device(np.zeros(1)))  # has its twins registered
    noting = Noting(by or ENGINES[name])
    patch.setitem(engine._ready, name, noting)
    return noting


# -- the programs ------------------------------------------------------------------------------------------------------


def layer(name: str, training: bool = True) -> Callable[[str, str], Arrays]:
    """Return y, every gradient and every statistic of a row of the table of layers."""

    def program(dtype: str, wide: str) -> Arrays:
        case = CASES[name]
        narrow = case.layer(dtype, training)
        one = case.layer(wide, training)
        one.load_state(narrow.state())
        x = case.x(1, *case.shape).astype(dtype)
        dy = draw(2, *case.arrays()[1].shape, mean=0.0).astype(dtype)
        y, found = run(one, _batch_innermost(x).astype(wide), _batch_innermost(dy).astype(wide))
        return {"y": y} | found | {key: host(value) for key, value in one.state().items() if "running" in key}

    return program


def loss(dtype: str, wide: str) -> Arrays:
    """Return the loss and its gradient, without label smoothing and with it."""
    logits, labels = draw(1, 7, 5).astype(dtype).astype(wide), np.array([0, 4, 2, 2, 1, 3, 0])
    found = {}
    for smoothing in (0.0, 0.2):
        one = SoftmaxCrossEntropy(smoothing)
        value = one.forward(to_device(logits), to_device(labels))
        found |= {f"loss {smoothing}": host(value), f"dlogits {smoothing}": host(one.backward())}
    return found


RULES: dict[str, Callable[[Layer], Any]] = {
    "sgd": lambda layer: SGD(layer, 0.3),
    "momentum": lambda layer: SGD(layer, 0.3, momentum=0.9),
    "nesterov": lambda layer: SGD(layer, 0.3, momentum=0.8, nesterov=True, weight_decay=0.01),
    "adam": lambda layer: Adam(layer, 0.03, betas=(0.7, 0.9), weight_decay=0.2),
    "adamw": lambda layer: AdamW(layer, 0.03, eps=0.01, weight_decay=0.2),
}


def optimisers(dtype: str, wide: str) -> Arrays:
    """Return the parameters after three steps by every rule."""
    found = {}
    for name, rule in RULES.items():
        one = Linear(5, 3, rng=np.random.default_rng(0), dtype=dtype)
        wider = Linear(5, 3, rng=np.random.default_rng(0), dtype=wide)
        wider.load_state(one.state())
        optimiser = rule(wider)
        for gradient in wider.grads.values():
            gradient[...] = to_device(draw(3, *gradient.shape).astype(dtype).astype(wide))
        for _ in range(3):
            optimiser.step()
        found |= {f"{key} {name}": host(p) for key, p in parameters(wider).items()}
    return found


PROGRAMS: dict[str, Callable[[str, str], Arrays]] = {"loss": loss, "optimisers": optimisers}
for _name, _case in CASES.items():
    PROGRAMS |= {_name if training else f"{_name}, eval": layer(_name, training) for training in _case.modes()}
_LARGE = [name for name, case in CASES.items() if np.prod(case.shape) > 4000]  # slow where kernels run on the CPU
EACH = [
    (backend, name)
    for backend in ENGINES
    for name in PROGRAMS
    if backend != "cupy" or name.removesuffix(", eval") not in _LARGE
]


def _batch_innermost(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


def _values(name: str) -> int:
    """Return how many values a sum of the program may have."""
    case = CASES.get(name.removesuffix(", eval"))
    return int(np.prod(case.shape)) if case else 100


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("backend", "name"), EACH)
def test_a_twin_gives_the_values_of_the_written_function(backend, name, dtype):
    with computing("numpy", WRITTEN):
        want = PROGRAMS[name](dtype, "float64")
    with computing(backend) as noting:
        got = PROGRAMS[name](dtype, dtype)
        if not noting.met & noting.twins.keys():
            pytest.skip("no twin stands in here")
    for key in want:
        assert got[key].dtype == dtype or "running" in key, key
        size = np.abs(want[key]).max(initial=0) + (np.abs(want["y"]).max() if "y" in want else 0)
        assert_close(got[key], want[key], _OPERATIONS * np.sqrt(_values(name)) * unit(dtype) * size, key)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_row_of_the_table_reaches_every_twin(backend):
    with computing(backend) as noting:
        for name in PROGRAMS:
            if name not in _LARGE and not name.endswith(", eval"):
                PROGRAMS[name]("float32", "float32")
    missed = noting.twins.keys() - noting.met
    assert not missed, f"no row of the tables reaches {sorted(f'{f.__module__}.{f.__qualname__}' for f in missed)}"


# -- memory, NaN and what forward decided ------------------------------------------------------------------------------

ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "read only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in _LARGE])
def test_any_memory_order_gives_the_same_values(backend, name, order):
    case = CASES[name]
    with computing(backend):
        x, dy = case.arrays("float32")
        want_y, want = run(case.layer("float32"), _batch_innermost(x), _batch_innermost(dy))
        y, got = run(case.layer("float32"), ORDERS[order](x), ORDERS[order](dy))
    for key, value in ({"y": y} | got).items():
        wanted = want_y if key == "y" else want[key]
        size = np.abs(wanted).max(initial=0) + np.abs(want_y).max(initial=0)
        assert_close(value, wanted, _OPERATIONS * np.sqrt(x.size) * unit("float32") * size, key)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", [name for name in CASES if name not in _LARGE])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_what_is_not_finite_passes_through(backend, name, bad):
    """A diverged run is noticed: y is not finite where the written function's is not."""
    case = CASES[name]
    x = case.arrays("float32")[0]
    x[(0,) * x.ndim] = bad
    with computing("numpy", WRITTEN):
        want = case.layer("float32").forward(x)
    with computing(backend):
        y = host(case.layer("float32").forward(to_device(x)))
    lost = np.isfinite(y) & ~np.isfinite(want)
    assert not lost.any(), f"finite at {np.argwhere(lost)[:3].tolist()}"


@pytest.mark.parametrize("name", [name for name in CASES if name not in _LARGE])
def test_backward_has_the_engine_of_its_forward(name):
    case = CASES[name]
    x, dy = case.arrays()
    with use_backend("numpy"):
        one = case.layer()
        y = one.forward(x)
    pytest.importorskip("numba")
    with use_backend("numba"):
        dx = one.backward(dy)
    with use_backend("numpy"):
        again = case.layer()
        np.testing.assert_array_equal(again.forward(x), y)
        np.testing.assert_array_equal(again.backward(dy), dx)


# -- sizes -------------------------------------------------------------------------------------------------------------

SIX = ("bn", "in", "ln", "gn", "mn", "mgn")


def _both(backend: str, norm: str, x: np.ndarray, dy: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (name, what the engine gives in x's precision, what the written function gives in float64)."""

    def program(dtype: str) -> Arrays:
        one = norm_factory(norm, dtype=dtype)(x.shape[1], np.random.default_rng(0))
        for name, gate in one.params.items():
            if name == "gate.weight":  # gates see no mean that all channels share
                gate[...] = to_device(np.resize([0.25, -0.25], gate.shape) if gate.shape[1] > 1 else 0 * host(gate))
        y, found = run(one, x.astype(dtype), dy.astype(dtype))
        return {"y": y, "dx": found["dx"], "dweight": found["dweight"]}

    with computing("numpy", WRITTEN):
        want = program("float64")
    with computing(backend):
        got = program(str(x.dtype))
    for key in want:
        yield key, got[key], want[key]


@pytest.mark.parametrize("norm", SIX)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(("shape", "mean"), [((2, 2, 700, 900), 1e5), ((3, 2, 65, 64), 1e4), ((2, 2, 1, 300001), 1e3)])
def test_norms_of_large_images_with_a_large_mean_are_accurate(backend, norm, shape, mean):
    x = draw(1, *shape, mean=mean, std=1.0).astype(np.float32)
    dy = draw(2, *shape, mean=0.3, std=1.0).astype(np.float32)
    for key, got, want in _both(backend, norm, x, dy):
        # a sum's parts err by u·sqrt(512) of their size; nothing of it grows with the mean or the number of pixels
        size = np.abs(want).max() if key != "dweight" else np.sqrt(x.size) * 8
        assert_close(got, want, 32 * unit("float32") * size, f"{norm}: {key}")


@pytest.mark.parametrize("norm", SIX)
@pytest.mark.parametrize(
    ("backend", "size"),  # a compiled slope of x − m, about 1/x³, is below float32's numbers beyond 1e19
    [("numpy", 1e19), ("numpy", 1e30), ("numba", 1e19), ("cupy", 1e19)],
)
def test_norms_of_numbers_whose_squares_are_beyond_float32(backend, norm, size):
    x = (size * draw(1, 4, 4, 5, 7, mean=0.0, std=1.0)).astype(np.float32)
    dy = draw(2, 4, 4, 5, 7, mean=0.3, std=1.0).astype(np.float32)
    for key, got, want in _both(backend, norm, x, dy):
        assert_close(got, want, 64 * unit("float32") * np.abs(want).max(), f"{norm}: {key}")
