"""The gradient property can fail: each term dropped from the backward of MN or MGN is found by the examples of CI.

The mutants are those of `test_mutations`. A written backward is tried on NumPy and on the stand-in for CuPy, whose
kernels step aside for it; the compiled one is run uncompiled, so that a mutant costs no compilation.
"""

import math

import pytest
from hypothesis import Phase
from layer_runs import EACH_LIBRARY
from test_mutations import far_mean, mutants
from test_norm_gradients import check_plain, property_of

from minidl import ModeNorm, engine, use_backend
from minidl.engine import WRITTEN
from minidl.norm import mode, mode_group

NORMS = ("ModeNorm", "ModeGroupNorm")
BACKWARDS = {  # all that a backward calls of the small arrays; the passes over images are guarded in test_mutations
    "ModeNorm": (
        mode.mode_norm_backward,
        mode.mode_moments_backward,
        mode.mode_weights_backward,
        mode.gates_backward,
        ModeNorm.small_backward,
    ),
    "ModeGroupNorm": (mode_group.mode_group_norm_backward,),
}
_NAMES = "at end lanes pixels rows part parts start stop stop_at _BLOCK"
PLACES = set("abcijknp") | set(_NAMES.split())  # of compiled passes
BELOW_ROUNDING = "first[i] + rest[i] -> first[i]"  # a mean, and what its rounding to float64 left


def in_ci(norm):
    """Return the property of a norm with what CI tries: plain settings, and examples that follow from its source."""
    drawn = property_of(norm, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False)

    def holds():
        check_plain(norm)
        drawn()

    return holds


def found(*checks):
    """Tell whether one of the checks finds wrong numbers, or none at all."""
    for check, *arguments in checks:
        try:
            check(*arguments)
        except Exception:
            return True
    return False


def missed(functions, checks, monkeypatch, whole=()):
    """Return the mutants of the functions that no check finds."""
    left = []
    for function in functions:
        with monkeypatch.context() as patch:
            for what, mutant in mutants(function, whole):
                patch.setattr(function, "__code__", mutant)
                if not found(*checks):
                    left.append(f"{function.__qualname__}, {what}")
    assert not found(*checks)
    return left


@pytest.mark.slow
@EACH_LIBRARY
@pytest.mark.parametrize("norm", NORMS)
def test_each_dropped_term_of_a_written_backward_is_found(norm, library, monkeypatch):
    if library == "strict":
        monkeypatch.setitem(engine._ready, "cupy", WRITTEN)
    holds = in_ci(norm)
    holds()
    assert not missed(BACKWARDS[norm], [(holds,)], monkeypatch)


def counted(done, c, parts):
    """Do as `norm_loops.is_last`, on one thread."""
    if parts > 1:
        done[c] += 1
    return parts == 1 or done[c] == parts


@pytest.fixture
def uncompiled(monkeypatch):
    """Return a function that has the engine run these compiled functions as Python does, and returns them."""

    def plain(module, *names):
        functions = [getattr(module, name).py_func for name in names]
        for function in functions:
            monkeypatch.setattr(module, function.__name__, function)
        return functions

    pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    with use_backend("numba"):
        yield plain


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_each_dropped_term_of_a_compiled_backward_is_found(norm, uncompiled, monkeypatch):
    from minidl.engines.numba import small_loops

    holds = in_ci(norm)
    holds()  # compiles what is not run uncompiled
    backward = {"ModeNorm": "mode_norm_backward", "ModeGroupNorm": "mode_group_norm_backward"}[norm]
    *_, function = uncompiled(small_loops, "_sum", "_dot", backward)
    assert all(what.endswith(BELOW_ROUNDING) for what in missed([function], [(holds,)], monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_each_dropped_term_of_a_compiled_backward_over_the_pixels_is_found(norm, uncompiled, monkeypatch):
    """In rows of two pixels, so that small images go through the loops over pairs of rows and over what is left.

    Sums run over two parts of the rows.
    """
    from minidl.engines.numba import norm as passes
    from minidl.engines.numba import norm_loops

    monkeypatch.setattr(passes, "_layout", lambda shape: (math.prod(shape[1:-1]), min(2, math.prod(shape[1:-1]))))
    monkeypatch.setattr(passes, "_MANY", 2)
    monkeypatch.setattr(passes, "_LARGE", 1)
    checks = (in_ci(norm),), (far_mean, "BatchNorm")  # which sees the rest of a mean: in float32 it matters
    assert not found(*checks)  # and all is compiled
    monkeypatch.setattr(norm_loops, "is_last", counted)
    functions = uncompiled(norm_loops, "_dot", "begin_sums", "add_block", "add_up", "backward_rows", "_back")
    functions += uncompiled(passes, "write_sums", "write_backward")
    assert not missed(functions, checks, monkeypatch, whole=PLACES)
