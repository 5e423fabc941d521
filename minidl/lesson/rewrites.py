"""What a tutor puts in the place of one node of a wrong answer: another name, axis, order, function or statement.

`arithmetic` has what is put in the place of an operation, a number or a value.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from typing import Any

from minidl.lesson.arithmetic import REDUCE, called, of_a_number, of_a_value, of_an_operation, parsed
from minidl.lesson.slips import Change

OTHER = {"argmax": ("argmin",), "argmin": ("argmax",), "maximum": ("minimum",), "minimum": ("maximum",)}
FAMILIES = (
    ("sum", "mean", "max", "min", "prod"),
    ("var", "std"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("sqrt", "cbrt"),
)
LOGS = ("log", "log2", "log10", "exp")
MAKERS = (
    "empty",
    "zeros",
    "ones",
    "full",
    "eye",
    "arange",
    "linspace",
    "uniform",
    "normal",
    "repeat",
    "tile",
    "pad",
    "broadcast_to",
)
COMPARE = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
AXES = [
    *range(-1, 4),
    (0, 1),
    (1, 2),
    (2, 3),
    (0, 2),
    (0, 2, 3),
    (1, 2, 3),
    (0, 1, 2),
    (0, 1, 3),
    (0, 2, 3, 4),
    (2, 3, 4),
    (1, 3, 4),
]


def changes(node: ast.AST, within: ast.AST, names: list[str]) -> Iterator[Change]:
    """Yield (new node, words, rank, the node to quote) for one node."""
    if isinstance(node, ast.stmt):
        yield from _of_a_statement(node, names)
    elif isinstance(node, ast.BinOp):
        yield from of_an_operation(node)
    elif isinstance(node, ast.UnaryOp):
        yield (
            node.operand,
            "the sign in" if isinstance(node.op, ast.USub) else "the `not` in",
            1,
            within if isinstance(within, ast.expr) else None,
        )
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield from of_a_number(node, within)
        if isinstance(within, ast.expr):
            for name in names:
                yield parsed(name), f"the number {node.value!r}, where a variable belongs, in", 6, within
    elif isinstance(node, ast.Call):
        yield from _of_a_call(node)
    elif isinstance(node, ast.Attribute):
        yield from _of_an_attribute(node)
    elif isinstance(node, ast.Tuple | ast.List) and isinstance(getattr(node, "ctx", None), ast.Load):
        yield from _of_a_tuple(node)
    elif isinstance(node, ast.Dict):
        for i, j in itertools.combinations(range(len(node.values)), 2):
            values = list(node.values)
            values[i], values[j] = values[j], values[i]
            yield ast.Dict(node.keys, values), "which value belongs to which key in", 4, None
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in COMPARE:
            if not isinstance(node.ops[0], op):
                yield ast.Compare(node.left, [op()], node.comparators), "the comparison", 1, None
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield node.value, "the index in", 4, None
        if not isinstance(node.slice, ast.Tuple | ast.Slice):
            every = ast.Tuple([ast.Slice(None, None, None), node.slice], ast.Load())
            yield ast.Subscript(node.value, every, ast.Load()), "which axis the index is of in", 3, None
    elif isinstance(node, ast.Slice) and node.step is not None:
        yield ast.Slice(node.lower, node.upper, None), "the step of the slice", 4, within
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield value, "the condition", 4, None
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body), "the two cases of", 3, None
    if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        yield from of_a_value(node, within, names)


def _of_a_statement(node: ast.stmt, names: list[str]) -> Iterator[Change]:
    if isinstance(node, ast.AugAssign):
        plus = isinstance(node.op, ast.Add | ast.Sub)
        for op in (ast.Add, ast.Sub) if plus else (ast.Mult, ast.Div):
            if not isinstance(node.op, op):
                words = "the sign in" if plus else "what is multiplied and what divided in"
                yield ast.AugAssign(node.target, op(), node.value), words, 1, None
        yield ast.Assign([node.target], node.value, lineno=0), "the operator in", 3, None
    elif (
        isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name | ast.Attribute | ast.Subscript)
    ):
        yield (
            ast.AugAssign(node.targets[0], ast.Add(), node.value),
            "what `=` does in the loop or the buffer, in",
            3,
            None,
        )
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
        return
    if isinstance(node, ast.Expr | ast.Assign | ast.AugAssign):
        yield ast.Pass(), "what is done too often or too much in", 6, None
        yield [node, node], "what is done once too few in", 9, None
    if isinstance(node, ast.Expr):
        yield ast.Return(node.value), "`return`, which is missing before", 2, None


def _of_a_call(node: ast.Call) -> Iterator[Change]:
    function = called(node)
    given = {keyword.arg for keyword in node.keywords}
    if function in REDUCE:
        for axis in AXES:
            value = parsed(str(axis))
            others = [keyword for keyword in node.keywords if keyword.arg != "axis"]
            method = not (isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("np", "xp"))
            arguments = node.args[: 0 if method else 1]
            yield ast.Call(node.func, arguments, [*others, ast.keyword("axis", value)]), "the axis of", 2, None
            if "keepdims" not in given and function in ("sum", "mean", "max", "min", "var", "std"):
                kept = [*others, ast.keyword("axis", value), ast.keyword("keepdims", parsed("True"))]
                yield ast.Call(node.func, arguments, kept), "the axis and keepdims of", 5, None
    for name in ("keepdims", "ddof", "dtype", "axis", "mode"):
        if name in given:
            yield ast.Call(node.func, node.args, [k for k in node.keywords if k.arg != name]), f"`{name}` in", 2, None
    if function in ("var", "std") and "ddof" not in given:
        yield (
            ast.Call(node.func, node.args, [*node.keywords, ast.keyword("ddof", parsed("1"))]),
            "the divisor in",
            2,
            None,
        )
    if function in ("sum", "mean", "max", "var", "std") and "keepdims" not in given:
        kept = [*node.keywords, ast.keyword("keepdims", parsed("True"))]
        yield ast.Call(node.func, node.args, kept), "keepdims, which is missing in", 2, None
    if isinstance(node.func, ast.Name) and function in ("max", "min"):
        other = ast.Call(parsed("min" if function == "max" else "max"), node.args, node.keywords)
        yield other, f"`{function}` in", 2, None
    if isinstance(node.func, ast.Attribute):
        yield node.func.value, "a step too many in", 5, None
    if node.args:
        yield node.args[0], "a step too many in", 4, None
        for i, j in itertools.combinations(range(len(node.args)), 2):
            arguments = list(node.args)
            arguments[i], arguments[j] = arguments[j], arguments[i]
            yield ast.Call(node.func, arguments, node.keywords), "the order of the arguments in", 4, None


def _of_an_attribute(node: ast.Attribute) -> Iterator[Change]:
    others: tuple[str, ...] = next(
        (family for family in (*FAMILIES, LOGS) if node.attr in family), OTHER.get(node.attr, ())
    )
    others += ("real", "imag") if node.attr in ("real", "imag") else ()
    for other in others:
        if other != node.attr:
            yield ast.Attribute(node.value, other, node.ctx), f"`{node.attr}` in", 2, None
    if node.attr == "T":
        yield node.value, "the transpose in", 2, None


def _of_a_tuple(node: Any) -> Iterator[Change]:
    numbers = [element.value for element in node.elts if isinstance(element, ast.Constant)]
    if len(numbers) == len(node.elts) and all(type(n) is int and 0 <= n < 5 for n in numbers):
        for axis in AXES:
            if isinstance(axis, tuple):
                yield parsed(str(axis)), "the axes", 3, None
    if 2 <= len(node.elts) <= 4:
        for order in itertools.permutations(node.elts):
            yield type(node)(list(order), node.ctx), "the order in", 3, None
    else:
        for i, j in itertools.combinations(range(min(len(node.elts), 7)), 2):
            elements = list(node.elts)
            elements[i], elements[j] = elements[j], elements[i]
            yield type(node)(elements, node.ctx), "the order in", 4, None
