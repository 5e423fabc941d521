"""The mutation guard: dropping any one term or factor of a norm's backward turns the gradient check red.

The mutants are made mechanically from the source, so a term added tomorrow is guarded tomorrow. None is equivalent to
the original: each is found by wrong numbers, but for a few that lose a shape and stop with an error.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterator
from functools import cache
from types import CodeType

import numpy as np
import pytest
from gate_check import check_entropy, check_fold
from layer_cases import CASES
from layer_check import check_slopes, poison
from layer_runs import draw, run
from tolerance import assert_close, terms

from minidl import use_backend
from minidl.engines.numpy import norm as moments
from minidl.norm import batch, gate_entropy, gate_input, group, mode, mode_group


def far_mean(name):
    """Hold float32 gradients at a mean of 1e4 against extended precision: there δ, the rest of the mean, matters."""
    case = CASES[name]
    x = draw(1, *case.shape, mean=1e4, std=1.0).astype(np.float32)
    dy = draw(2, *case.shape).astype(np.float32)
    layer = case.layer("float32")
    _, want = case.wanted(layer, x.astype(np.longdouble), dy.astype(np.longdouble))
    _, got = run(layer, x, dy)
    for key in ("dx", "dweight"):
        # a sample's mean is 1e4 with one rounding to float64 alone; what is left are sums of up to 105 float32 products
        assert_close(got[key], want[key], terms(160, np.abs(want[key]).max(), "float32"), key)


def slopes(*names, evals=()):
    return [*((check_slopes, name, True) for name in names), *((check_slopes, name, False) for name in evals)]


MODE_NORM = slopes(
    "ModeNorm (N, C)",
    "ModeNorm",
    "ModeNorm, an affine pair per mode",
    evals=["ModeNorm (N, C)", "ModeNorm, an affine pair per mode"],
)

# function: (the checks that guard it, the number of its mutants, and how many of them stop with an error)
GUARDED = {
    batch.batch_norm_backward: (
        slopes("BatchNorm (N, C)", "BatchNorm (N, C, L)", evals=["BatchNorm (N, C)", "BatchNorm (N, C, L)"]),
        37,
        3,
    ),
    group.group_norm_backward: (slopes("GroupNorm (N, C)", "GroupNorm (N, C, L)", "InstanceNorm (N, C, L)"), 34, 4),
    mode.mode_norm_backward: (MODE_NORM, 39, 2),
    mode.mode_moments_backward: (MODE_NORM, 16, 0),
    mode.mode_weights_backward: (MODE_NORM, 7, 0),
    mode.gates_backward: (MODE_NORM, 8, 0),
    mode.ModeNorm.small_backward: (MODE_NORM, 16, 2),
    gate_input.fold_backward: (
        [(check_fold, training, 3.0) for training in (True, False)],
        33,
        1,
    ),
    gate_entropy.gate_entropy_backward: ([(check_entropy, 7.0)], 9, 0),
    mode_group.mode_group_norm_backward: (
        slopes("ModeGroupNorm (N, C)", "ModeGroupNorm", "ModeGroupNorm, pooled moments"),
        71,
        4,
    ),
    moments.scale_shift_sums: ([*slopes("BatchNorm", "ModeNorm"), (far_mean, "BatchNorm")], 6, 0),
    moments.scale_shift_backward: ([*slopes("BatchNorm", "ModeNorm"), (far_mean, "BatchNorm")], 17, 1),
}


def mutations(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the node's place: without one term, without one factor, doubled, or gone."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield from (left, right)
        case ast.BinOp(left, ast.Sub(), right):
            yield from (left, ast.UnaryOp(ast.USub(), right))
        case ast.BinOp(left, ast.Mult(), right):
            yield from (left, right)
        case ast.BinOp(left, ast.Div() | ast.Pow(), _):
            yield left
        case ast.BinOp(_, ast.MatMult(), _) | ast.Call(ast.Attribute(_, "sum") | ast.Name("products" | "_dot")):
            yield ast.BinOp(ast.Constant(2), ast.Mult(), node)
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):  # -1 is an axis
            yield operand
        case ast.AugAssign() | ast.Expr(ast.Call()):
            yield ast.Pass()
        case ast.If(ast.UnaryOp(ast.Not(), ast.Call(ast.Name("isinstance")))):
            pass  # a twin that hands over to the written function: both are right
        case ast.If(ast.Compare(ast.Attribute(_, "across"))):
            pass  # a layer that shares its batch with other processes: tests/distributed holds that
        case ast.If():
            yield from (ast.If(ast.Constant(value), node.body, node.orelse) for value in (True, False))


class Replace(ast.NodeTransformer):
    """Put one node in the place of another, the n-th one met."""

    def __init__(self, place: int, replacement: ast.AST) -> None:
        self.place, self.replacement, self.met = place, replacement, -1

    def visit(self, node: ast.AST) -> ast.AST:
        """Replace the node or go on below it."""
        self.met += 1
        return self.replacement if self.met == self.place else self.generic_visit(node)


def mutants(function: Callable, whole: Collection[str] = ()) -> Iterator[tuple[str, CodeType]]:
    """Yield (what was changed, the changed code) for every mutation of a function; not of what counts `whole` names."""
    for place, node in enumerate(_in_order(_definition(function))):
        if whole and _counts(node, whole):
            continue
        for replacement in mutations(node):
            what = f"line {node.lineno}: {ast.unparse(node)} -> {ast.unparse(replacement)}"
            yield what, code(function, Replace(place, replacement))


def _counts(node: ast.AST, whole: Collection[str]) -> bool:
    """Tell whether a node says how far a loop goes, or where in an array it is: an endless loop is no wrong term."""
    if isinstance(node, ast.AugAssign):
        return isinstance(node.target, ast.Name) and node.target.id in whole
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return isinstance(node, ast.BinOp) and bool(names) and names <= set(whole)


def code(function: Callable, change: ast.NodeTransformer) -> CodeType:
    """Compile a function after a change of its tree."""
    changed = ast.fix_missing_locations(change.visit(_definition(function)))
    namespace = dict(function.__globals__)
    exec(compile(ast.Module([changed], []), "<mutant>", "exec"), namespace)
    return namespace[function.__name__].__code__


def _definition(function: Callable) -> ast.FunctionDef:
    """Return the function's tree without its decorators: one that registers a twin would leave a mutant behind."""
    tree = ast.parse(_source(function)).body[0]
    tree.decorator_list = []
    return tree


@cache
def _source(function: Callable) -> str:
    """Return the source of the function as it was before any mutant took its place."""
    return textwrap.dedent(inspect.getsource(function))


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes in the order in which `Replace` meets them."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def verdict(checks) -> str:
    """Return "green", "off" for wrong numbers, or "error" for none at all."""
    try:
        for check, *arguments in checks:
            check(*arguments)
    except AssertionError:
        return "off"
    except Exception:  # whatever a mutant runs into
        return "error"
    return "green"


@use_backend("numpy")  # whatever MINIDL_BACKEND says: a mutant is one of a written function
@pytest.mark.parametrize("function", GUARDED, ids=lambda function: function.__qualname__)
def test_every_mutant_of_a_backward_turns_the_gradient_check_red(function, monkeypatch):
    checks, *counts = GUARDED[function]
    poison(monkeypatch)  # else a mutant that leaves memory unwritten may find the right values there
    monkeypatch.setattr(function, "__code__", code(function, ast.NodeTransformer()))
    assert verdict(checks) == "green"  # compiled again and not changed
    verdicts = {}
    for what, mutant in mutants(function):
        monkeypatch.setattr(function, "__code__", mutant)
        verdicts.setdefault(verdict(checks), []).append(what)
    monkeypatch.undo()
    assert verdict(checks) == "green"
    assert "green" not in verdicts, "\n".join(["no check noticed", *verdicts["green"]])
    errors = verdicts.get("error", [])
    assert counts == [sum(map(len, verdicts.values())), len(errors)], "\n".join(["errors:", *errors])
