"""The held-out set is what it says: each bug differs from the reference, each correct layer agrees with it.

No diagnosis is involved; `heldout/measure.py` measures that.
"""

import re

import numpy as np
import pytest
from heldout.collected import BUGS, CORRECT, RUNNABLE
from heldout.fifth import collected as fifth
from heldout.fourth import collected as fourth
from heldout.measure import dtypes_of
from heldout.second import collected as second
from heldout.seventh import collected as seventh
from heldout.sixth import collected as sixth
from heldout.third import collected as third
from heldout_runs import FIRST_RUN

from minidl.check import runner
from minidl.check.adapters.reference import Adapter as Reference
from minidl.check.conventions import declared
from minidl.check.seeds import seeded
from minidl.check.suite import VECTORS, open_suite

# no case showed it at the first run
SHOWN_SINCE = {"n3-sce-max-from-zero": "softmax_cross_entropy-seeded-far-below-float32-01"}
CASES = {
    bug: run[bug.id]["first_wrong"] or SHOWN_SINCE.get(bug.id)
    for bugs, run in (
        (third.BUGS, FIRST_RUN["third"]),
        (fourth.BUGS, FIRST_RUN["fourth"]),
        (fifth.BUGS, FIRST_RUN["fifth"]),
        (sixth.BUGS, FIRST_RUN["sixth"]),
        (seventh.BUGS, FIRST_RUN["seventh"]),
    )
    for bug in bugs
}
SUITE = open_suite(VECTORS)
WIDE = {"float16": 0.02, "float32": 3e-4, "float64": 1e-9}  # a bug is at least this far off, of the largest value
CLOSE = {"float32": 1e-4, "float64": 1e-9}  # a correct layer is closer
NORMS = ("batch_norm", "instance_norm", "layer_norm", "group_norm", "mode_norm", "mode_group_norm")


def norm_probes(layer):
    """(shape, offset, scale, steps, options) that show one fault or another."""
    common = {"eps": 1e-2, "momentum": 0.3} | ({"num_modes": 3} if "mode" in layer else {})

    def groups(number):
        return common | ({"num_groups": number} if layer == "group_norm" else {})

    usual = "train train eval", "eval", "train- eval- train"
    for steps in usual:
        yield (4, 6, 3, 5), 0.0, 1.0, steps, groups(2)
    yield (5, 4, 6), 300.0, 1.0, "train", groups(2)
    yield (4, 6, 5), -2.0, 0.05, "train eval", groups(3)
    yield (3, 70, 8, 7), 0.5, 1.0, "train", groups(5)
    if layer == "batch_norm":
        yield (5, 4), 0.0, 1.0, "fresh eval train eval", common
        yield (1, 4), 0.0, 1.0, "train-", common
    if layer == "group_norm":
        yield (3, 5, 4), 0.0, 1.0, "train", groups(2)  # must raise


def script(layer, dtype):
    """Yield (options, params, state, steps) with the arrays of each step."""
    rng = np.random.default_rng(7)

    def numbers(*shape):
        return rng.standard_normal(shape).astype(dtype)

    if layer in NORMS:
        for shape, offset, scale, steps, options in norm_probes(layer):
            c = shape[1]
            params = {"weight": numbers(c) + np.sign(numbers(1)), "bias": numbers(c)}
            state = {"running_mean": numbers(c), "running_var": np.exp(numbers(c))} if layer == "batch_norm" else {}
            if "mode" in layer:
                width = c if layer == "mode_norm" else 1
                params |= {"gate.weight": numbers(3, width) / dtype(max(abs(offset), 1)), "gate.bias": numbers(3)}
            if layer == "mode_norm":
                below = 0.5 if steps == "eval" else 0.0
                mean = numbers(3, c)
                state = {"running_mean": mean, "running_mean_square": mean**2 + np.exp(numbers(3, c)) - dtype(below)}
            if steps.startswith("fresh"):
                state = {}
            if dtype is np.float16:
                state = {k: v.astype(np.float32) for k, v in state.items()}
                offset, scale = 100 * np.sign(offset), 10 * scale
            moves = []
            for step in steps.replace("fresh", "").split():
                x = (numbers(*shape) * dtype(scale) + dtype(offset)).astype(dtype)
                moves.append((step, x, numbers(*shape)))
            yield options | {"num_features": c}, params, state, moves
    elif layer in ("conv2d", "max_pool2d", "avg_pool2d"):
        for kernel, stride, padding in (([3, 2], [1, 2], [1, 0]), ([2, 3], [1, 1], [1, 1]), ([3, 3], [2, 2], [1, 1])):
            for ties in (False, True):
                x = numbers(3, 2, 6, 7) - dtype(1)
                x = np.round(x) if ties else x
                out = 4 if layer == "conv2d" else 2
                size = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip((6, 7), kernel, stride, padding, strict=True)]
                params = {"weight": numbers(4, 2, *kernel), "bias": numbers(4)} if layer == "conv2d" else {}
                options = {"kernel_size": kernel, "stride": stride, "padding": padding}
                yield options, params, {}, [("train", x, numbers(3, out, *size))]
    elif layer == "linear":
        moves = [("train", numbers(4, 5), numbers(4, 3)) for _ in range(2)]
        yield {}, {"weight": numbers(3, 5), "bias": numbers(3)}, {}, moves
    else:
        for scale in (1, 60, 900):
            labels = np.array([0, 2, 1, 3, 2])
            yield {}, {"labels": labels}, {}, [("train", numbers(5, 4) * dtype(scale), dtype(1.7))]


def played(make, layer, conventions, probe):
    """The outputs of one probe as a list of (name, array); an input that was changed stands in it too."""
    options, params, state, moves = probe
    last = conventions.layout == "NHWC"
    out = []

    def there(a):
        return np.ascontiguousarray(np.moveaxis(a, 1, -1)) if last and np.ndim(a) > 2 else np.array(a)

    def back(a):
        return np.moveaxis(a, -1, 1) if last and np.ndim(a) > 2 else a

    adapter = make(layer, dict(options))
    adapter.load({k: v.copy() for k, v in params.items()}, {k: v.copy() for k, v in state.items()})
    with np.errstate(all="ignore"):
        for step, x, dy in moves:
            given, cotangent = there(x), there(dy)
            out.append(("y", np.array(back(adapter.forward(given, not step.startswith("eval"))))))
            if not step.endswith("-"):
                grads = adapter.backward(cotangent)
                out += [(k, np.array(back(v) if k == "dx" else v)) for k, v in sorted(grads.items())]
                out.append(("the given dy", back(cotangent)))
            out.append(("the given x", back(given)))
            out += [(f"state {k}", np.array(v)) for k, v in sorted(adapter.state().items())]
    return out


def summed(outputs, conventions):
    """Parameter gradients as they add up, where they do."""
    total: dict = {}
    result = []
    for name, value in outputs:
        if conventions.grads == "accumulate" and re.match("d(?!x)", name):
            total[name] = value = total.get(name, 0) + value
        result.append((name, value))
    return result


def distance(make, layer, dtype_name):
    """The largest error over all probes, of the largest value of its tensor; infinite where something is missing."""
    dtype = getattr(np, dtype_name)
    conventions = declared(getattr(make, "conventions", None))
    worst = 0.0
    for probe in script(layer, dtype):
        options, params, state, moves = probe
        if conventions.single_value == "raises" and any(x.size == x.shape[1] for _, x, _ in moves if x.ndim > 1):
            continue
        wide = tuple(
            {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in given.items()}
            for given in (params, state)
        )
        exact = options, *wide, [(s, x.astype(np.float64), np.float64(dy)) for s, x, dy in moves]
        try:
            want = summed(played(Reference, layer, declared({}), exact), conventions)
        except ValueError:
            want = None
        try:
            got = played(make, layer, conventions, probe)
        except (ValueError, RuntimeError, IndexError):  # the shapes of what came out do not fit
            if want is None:
                continue
            return np.inf
        if want is None:
            return np.inf
        values = dict(enumerate(got))
        for place, (name, expected) in enumerate(want):
            if place not in values or values[place][0] != name or values[place][1].shape != expected.shape:
                return np.inf
            found = values[place][1].astype(np.float64)
            if np.isnan(found).any() != np.isnan(expected).any() or np.isinf(found).any():
                return np.inf
            # the gates' gradients cancel: they are small beside the terms they are sums of, which x multiplies
            least = max(float(np.abs(x).max()) for _, x, _ in moves) if "gate" in name else 1e-3
            scale = max(float(np.abs(expected).max()), least)
            worst = max(worst, float(np.abs(found - expected).max() / scale))
    return worst


@pytest.mark.parametrize("bug", [*BUGS, *second.BUGS], ids=lambda bug: bug.id)
def test_a_bug_differs_from_the_reference(bug):
    if bug not in RUNNABLE and bug not in second.RUNNABLE:
        pytest.skip("PyTorch is not installed")
    assert distance(bug.make, bug.layer, bug.dtype) > WIDE[bug.dtype]


@pytest.mark.parametrize("item", [*CORRECT, *second.CORRECT], ids=lambda item: item.id)
def test_a_correct_layer_agrees_with_the_reference(item):
    dtypes = ("float32",) if item.style == "C float32" else ("float32", "float64")
    for dtype in dtypes:
        assert distance(item.make, item.layer, dtype) < CLOSE[dtype]


def test_jax_is_among_the_styles():
    pytest.importorskip("jax")
    assert any(item.style == "JAX" for item in CORRECT)


def case_named(layer, dtype, name):
    """A case of the suite, stored or made from a seed."""
    for entry in SUITE.entries:
        if entry.id == name:
            return SUITE.case(entry)
    return next(case for case in seeded(layer, dtype) if case.id == name)


@pytest.mark.parametrize("bug", [bug for bug, name in CASES.items() if name], ids=lambda bug: bug.id)
def test_a_bug_of_the_later_sets_fails_the_case_that_first_showed_it(bug):
    case = case_named(bug.layer, bug.dtype, CASES[bug])
    conventions = declared(getattr(bug.make, "conventions", None))
    assert runner.run_case(bug.make, case, bug.dtype, conventions).status == "failed"


def test_one_bug_of_the_fourth_set_is_shown_by_no_case():
    if fourth.torch is None:
        pytest.skip("the bug is in PyTorch, which is not installed")
    assert [bug.id for bug, name in CASES.items() if not name] == ["t4-ce-log-sum-with-shift-added-back"]


@pytest.mark.parametrize(
    "item",
    [
        i
        for i in (*third.CORRECT, *fourth.CORRECT, *fifth.CORRECT, *sixth.CORRECT, *seventh.CORRECT)
        if i.style != "JAX"
    ],
    ids=lambda item: item.id,
)
def test_a_correct_layer_of_the_later_sets_passes(item):
    conventions = declared(getattr(item.make, "conventions", None))
    every = conventions.variance == "one_pass"  # two of its cases failed once
    entries = [entry for entry in SUITE.entries if entry.layer == item.layer][
        :: 1 if every else 6
    ]  # measure.py runs all
    for dtype in dtypes_of(item):
        cases = [case for case in map(SUITE.case, entries) if case.runs_in(dtype)]
        cases += seeded(item.layer, dtype) if every else ()
        results = [runner.run_case(item.make, case, dtype, conventions) for case in cases]
        assert [result.case.id for result in results if result.status == "failed"] == []
