"""What a tutor puts in the place of one node of a wrong answer: another sign, axis, name, number, order or function."""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

REDUCE = (
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "median",
    "std",
    "var",
    "argmax",
    "argmin",
    "maximum",
    "minimum",
    "any",
    "all",
)

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


def called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@functools.lru_cache(maxsize=1000)
def _name(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def changes(node: ast.AST, within: ast.AST, names: list[str]) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    """Yield (new node, words, rank, the node to quote) for one node."""
    if isinstance(node, ast.stmt):
        yield from _of_a_statement(node, names)
    elif isinstance(node, ast.BinOp):
        yield from _of_an_operation(node)
    elif isinstance(node, ast.UnaryOp):
        yield (
            node.operand,
            "the sign in" if isinstance(node.op, ast.USub) else "the `not` in",
            1,
            within if isinstance(within, ast.expr) else None,
        )
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield from _of_a_number(node, within)
        if isinstance(within, ast.expr):
            for name in names:
                yield _name(name), f"the number {node.value!r}, where a variable belongs, in", 6, within
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
        yield from _of_an_expression(node, within, names)


def _of_a_statement(node: ast.stmt, names: list[str]) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
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


def _of_an_operation(node: ast.BinOp) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    left, right, op = node.left, node.right, node.op
    if isinstance(op, ast.Add | ast.Sub):
        yield ast.BinOp(left, ast.Sub() if isinstance(op, ast.Add) else ast.Add(), right), "the sign in", 1, None
        yield ast.BinOp(right, op, left), "what is taken from what in", 2, None
        yield ast.BinOp(left, ast.Mult(), right), "the operator in", 4, None
        yield left, "a term too many in", 3, None
        yield right, "a term too many in", 3, None
        if isinstance(left, ast.Call) and called(left) == "sqrt" and len(left.args) == 1:  # sqrt(a) + b
            inside = ast.BinOp(left.args[0], op, right)
            yield ast.Call(left.func, [inside], left.keywords), "what stands under the root in", 2, None
    elif isinstance(op, ast.Mult | ast.Div | ast.FloorDiv | ast.Mod):
        for other in (ast.Mult, ast.Div):
            if not isinstance(op, other):
                yield ast.BinOp(left, other(), right), "what is multiplied and what divided in", 2, None
        if isinstance(op, ast.Div | ast.FloorDiv | ast.Mod):
            yield ast.BinOp(right, op, left), "what is divided by what in", 3, None
        yield ast.BinOp(left, ast.Add(), right), "the operator in", 4, None
        yield left, "a factor too many in", 3, None
        yield right, "a factor too many in", 3, None
        if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Add | ast.Sub):  # (a + b) c, that should be a + b c
            yield ast.BinOp(left.left, left.op, ast.BinOp(left.right, op, right)), "the brackets in", 4, None
            yield ast.BinOp(ast.BinOp(left.left, op, right), left.op, left.right), "the brackets in", 4, None
        if isinstance(right, ast.BinOp) and isinstance(right.op, ast.Add | ast.Sub):
            yield ast.BinOp(ast.BinOp(left, op, right.left), right.op, right.right), "the brackets in", 4, None
            yield ast.BinOp(right.left, right.op, ast.BinOp(left, op, right.right)), "the brackets in", 4, None
        if isinstance(right, ast.BinOp) and isinstance(right.op, ast.Pow):  # a * b ** c
            yield ast.BinOp(ast.BinOp(left, op, right.left), right.op, right.right), "the brackets in", 2, None
        if isinstance(op, ast.Div) and isinstance(left, ast.BinOp) and isinstance(left.op, ast.Pow):  # a ** b / c
            power = ast.BinOp(left.right, ast.Div(), right)
            yield ast.BinOp(left.left, ast.Pow(), power), "the brackets in", 2, None
        yield from _of_a_chain(node)
    elif isinstance(op, ast.Pow):
        yield left, "the power in", 2, None
        if isinstance(left, ast.BinOp):
            yield ast.BinOp(left.left, left.op, ast.BinOp(left.right, op, right)), "the brackets in", 4, None
    elif isinstance(op, ast.MatMult):
        for a, b in itertools.product((left, _transposed(left)), (right, _transposed(right))):
            yield ast.BinOp(a, op, b), "the transpose in", 2, None
            yield ast.BinOp(b, op, a), "the order of the product in", 3, None
    if (
        isinstance(op, ast.Add | ast.Sub)
        and isinstance(right, ast.BinOp)
        and isinstance(right.op, ast.Mult | ast.Div | ast.Pow)
    ):
        yield ast.BinOp(ast.BinOp(left, op, right.left), right.op, right.right), "the brackets in", 4, None
    if isinstance(op, ast.Add | ast.Sub) and isinstance(left, ast.BinOp) and isinstance(left.op, ast.Mult | ast.Div):
        yield ast.BinOp(left.left, left.op, ast.BinOp(left.right, op, right)), "the brackets in", 4, None


def _of_a_chain(node: ast.BinOp) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    """Yield the product a b / c with two of its parts exchanged, where that is another product."""
    parts: list[tuple[ast.operator, ast.expr]] = []
    at: ast.expr = node
    while isinstance(at, ast.BinOp) and isinstance(at.op, ast.Mult | ast.Div):
        parts.append((at.op, at.right))
        at = at.left
    parts = [(ast.Mult(), at), *reversed(parts)]
    for i, j in itertools.combinations(range(len(parts)), 2):
        if type(parts[i][0]) is not type(parts[j][0]) and len(parts) > 2:
            order = list(parts)
            order[i], order[j] = (parts[i][0], parts[j][1]), (parts[j][0], parts[i][1])
            made = order[0][1]
            for op, value in order[1:]:
                made = ast.BinOp(made, op, value)
            yield made, "what is multiplied and what divided in", 3, None


def _transposed(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Attribute) and node.attr == "T" else ast.Attribute(node, "T", ast.Load())


def _of_a_number(node: ast.Constant, within: ast.AST) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    value = node.value
    assert isinstance(value, int | float)
    tried: list[float] = [
        value + 1,
        value - 1,
        2 * value,
        0,
        1,
        2,
        3,
        4,
        -value,
        *([(1 + value) / 2] if 0 < value < 1 else []),  # both tails, where one was taken
        *([value / 2, 0.5] if value else [0.5]),
    ]
    words = f"the number {value} in" if isinstance(within, ast.expr | ast.keyword) else "the number"
    for new in dict.fromkeys(tried):
        if new != value and not (isinstance(value, int) and isinstance(new, float) and isinstance(within, ast.Tuple)):
            number = int(new) if float(new).is_integer() and isinstance(value, int) else new
            yield ast.Constant(number), words, 3, within if isinstance(within, ast.expr) else None


def _of_a_call(node: ast.Call) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    function = called(node)
    given = {keyword.arg for keyword in node.keywords}
    if function in REDUCE:
        for axis in AXES:
            value = _name(str(axis))
            others = [keyword for keyword in node.keywords if keyword.arg != "axis"]
            method = not (isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("np", "xp"))
            arguments = node.args[: 0 if method else 1]
            yield ast.Call(node.func, arguments, [*others, ast.keyword("axis", value)]), "the axis of", 2, None
            if "keepdims" not in given and function in ("sum", "mean", "max", "min", "var", "std"):
                kept = [*others, ast.keyword("axis", value), ast.keyword("keepdims", _name("True"))]
                yield ast.Call(node.func, arguments, kept), "the axis and keepdims of", 5, None
    for name in ("keepdims", "ddof", "dtype", "axis", "mode"):
        if name in given:
            yield ast.Call(node.func, node.args, [k for k in node.keywords if k.arg != name]), f"`{name}` in", 2, None
    if function in ("var", "std") and "ddof" not in given:
        yield (
            ast.Call(node.func, node.args, [*node.keywords, ast.keyword("ddof", _name("1"))]),
            "the divisor in",
            2,
            None,
        )
    if function in ("sum", "mean", "max", "var", "std") and "keepdims" not in given:
        kept = [*node.keywords, ast.keyword("keepdims", _name("True"))]
        yield ast.Call(node.func, node.args, kept), "keepdims, which is missing in", 2, None
    if isinstance(node.func, ast.Name) and function in ("max", "min"):
        other = ast.Call(_name("min" if function == "max" else "max"), node.args, node.keywords)
        yield other, f"`{function}` in", 2, None
    if isinstance(node.func, ast.Attribute):
        yield node.func.value, "a step too many in", 5, None
    if node.args:
        yield node.args[0], "a step too many in", 4, None
        for i, j in itertools.combinations(range(len(node.args)), 2):
            arguments = list(node.args)
            arguments[i], arguments[j] = arguments[j], arguments[i]
            yield ast.Call(node.func, arguments, node.keywords), "the order of the arguments in", 4, None


def _of_an_attribute(node: ast.Attribute) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    others: tuple[str, ...] = next(
        (family for family in (*FAMILIES, LOGS) if node.attr in family), OTHER.get(node.attr, ())
    )
    others += ("real", "imag") if node.attr in ("real", "imag") else ()
    for other in others:
        if other != node.attr:
            yield ast.Attribute(node.value, other, node.ctx), f"`{node.attr}` in", 2, None
    if node.attr == "T":
        yield node.value, "the transpose in", 2, None


def _of_a_tuple(node: Any) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    numbers = [element.value for element in node.elts if isinstance(element, ast.Constant)]
    if len(numbers) == len(node.elts) and all(type(n) is int and 0 <= n < 5 for n in numbers):
        for axis in AXES:
            if isinstance(axis, tuple):
                yield _name(str(axis)), "the axes", 3, None
    if 2 <= len(node.elts) <= 4:
        for order in itertools.permutations(node.elts):
            yield type(node)(list(order), node.ctx), "the order in", 3, None
    else:
        for i, j in itertools.combinations(range(min(len(node.elts), 7)), 2):
            elements = list(node.elts)
            elements[i], elements[j] = elements[j], elements[i]
            yield type(node)(elements, node.ctx), "the order in", 4, None


def _of_an_expression(
    node: ast.expr, within: ast.AST, names: list[str]
) -> Iterator[tuple[Any, str, int, ast.AST | None]]:
    """Yield what may be missing at a value: a root, a square, a factor, a term; or that it is another's."""
    reduced = isinstance(within, ast.Attribute) and within.attr in REDUCE and getattr(node, "id", "") in names
    if (isinstance(within, ast.Attribute | ast.keyword | ast.Slice) and not reduced) or isinstance(node, ast.Constant):
        return
    if isinstance(node, ast.Name):
        whole = within if isinstance(within, ast.expr) else None
        called = within.func if isinstance(within, ast.Call) else None
        owner = getattr(called.value, "id", "") if isinstance(called, ast.Attribute) else ""
        for other in names:
            if other != node.id and node.id in names and other != owner:  # a list in itself has no end
                yield _name(other), f"the variable `{node.id}` in", 4, whole
        if node.id not in names:
            return
    elif not isinstance(node, ast.BinOp | ast.Call | ast.Subscript | ast.Attribute | ast.UnaryOp | ast.Compare):
        return
    if isinstance(within, ast.Call) and node is within.func:
        return
    if isinstance(within, ast.If | ast.IfExp | ast.While) and node is within.test:
        yield ast.UnaryOp(ast.Not(), node), "when the condition holds:", 1, None
        return
    two, half = (
        ast.Constant(2),
        ast.Constant(0.5),
    )  # powers are floats: whole ones grow without end
    op = within.op if isinstance(within, ast.BinOp) else None
    factor, term = isinstance(op, ast.Mult | ast.Div), isinstance(op, ast.Add | ast.Sub)
    if not factor and not term:
        yield ast.UnaryOp(ast.USub(), node), "the sign of", 3, None
    yield ast.BinOp(node, ast.Pow(), ast.Constant(2.0)), "a square that is missing at", 4, None
    yield ast.BinOp(node, ast.Pow(), half), "a root that is missing at", 4, None
    yield ast.BinOp(node, ast.Pow(), ast.Constant(3.0)), "a third power that is missing at", 6, None
    if not factor:
        yield ast.BinOp(node, ast.Pow(), ast.Constant(1 / 3)), "a root that is missing at", 4, None
    yield ast.BinOp(ast.Constant(1), ast.Div(), node), "what is divided by what at", 4, None
    yield ast.Attribute(node, "T", ast.Load()), "the transpose of", 4, None
    yield ast.Call(_name("len"), [node], []), "`len`, which is missing at", 5, None
    clipped = ast.Call(_name("np.maximum"), [node, ast.Constant(0)], [])
    yield clipped, "the negative values, which are to become zero, at", 5, None
    if not factor:  # else the whole product is tried
        for number, rank in ((two, 4), (half, 4), (ast.Constant(3), 7), (ast.Constant(4), 7)):
            yield ast.BinOp(node, ast.Mult(), number), "a factor, a number, that is wrong at", rank, None
    if isinstance(within, ast.Return) and not isinstance(node, ast.Name):
        for given in names:
            yield _name(given), "what is returned:", 4, None
    for given in names:
        second, said = _name(given), f"`{given}`"
        if getattr(node, "id", "") == given:
            continue  # twice a value is a factor, and nothing of it no help
        if not factor:
            yield ast.BinOp(node, ast.Mult(), second), f"{said}, a factor that is missing at", 5, None
            yield ast.BinOp(node, ast.Div(), second), f"{said}, a divisor that is missing at", 5, None
            rest = ast.BinOp(ast.Constant(1), ast.Sub(), second)
            yield ast.BinOp(node, ast.Mult(), rest), f"1 − {said}, a factor that is missing at", 5, None
            length = ast.Call(_name("len"), [second], [])
            yield ast.BinOp(node, ast.Div(), length), f"{said}: a division by its length is missing at", 8, None
            root = ast.BinOp(length, ast.Pow(), half)
            words = f"{said}: a division by the root of its length is missing at"
            yield ast.BinOp(node, ast.Div(), root), words, 8, None
        if not term:
            yield ast.BinOp(node, ast.Add(), second), f"{said}, a term that is missing at", 6, None
            yield ast.BinOp(node, ast.Sub(), second), f"{said}, a term that is missing at", 6, None
        if isinstance(node, ast.Name):
            for which in ("max", "min"):
                yield (
                    ast.Call(_name(which), [node, second], []),
                    f"{said}, of which a `{which}` is missing at",
                    4,
                    within,
                )
            part = ast.Subscript(node, ast.Slice(second, None, None), ast.Load())
            yield part, f"where to begin, `{said[1:-1]}`, in", 7, within if isinstance(within, ast.expr) else None
    for sign in (ast.Sub(), ast.Add()) if not term else ():
        yield ast.BinOp(node, sign, ast.Constant(1)), "a 1, to be added or taken away, at", 5, None
    if isinstance(within, ast.Return | ast.Assign | ast.Dict | ast.Tuple | ast.Call) or isinstance(op, ast.MatMult):
        for a, b in itertools.combinations_with_replacement(names, 2):
            product, said = ast.BinOp(_name(a), ast.Mult(), _name(b)), f"`{a} * {b}`"
            yield ast.BinOp(node, ast.Sub(), product), f"{said}, a term that is missing at", 8, None
            yield ast.BinOp(node, ast.Add(), product), f"{said}, a term that is missing at", 8, None


Change = Callable[..., Iterator[tuple[Any, str, int, ast.AST | None]]]
