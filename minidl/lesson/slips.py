"""Changes of form that a tutor tries in a wrong answer: a power in another place, an index, an order of axes.

`rewrites` and `arithmetic` have the changes of one sign, number, name or factor; here are those that move or add a
whole step.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any

Change = tuple[Any, str, int, ast.AST | None]  # the new node, how it is spoken of, how soon it is tried, what is quoted
COUNTS = ("a.sum(axis=0)", "len(a)", "a.size", "a[0].size", "a[0, 0].size", "a.shape[1]", "a.shape[-1]", "a[:, 0].size")
AXES_MOVED = 6  # axes of a reshape whose order is looked at, at most


def slips(node: ast.AST, within: ast.AST, loops: list[str]) -> Iterator[Change]:
    """Yield the changes of one node; loops are the names that the function's loops bind."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        yield from _power_inside(node)
    if isinstance(node, ast.Call):
        yield from _of_a_call(node)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        yield from _pairs(node)
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        for name in loops:
            part = ast.Subscript(_read(node.target), ast.Name(name, ast.Load()), ast.Store())
            yield ast.AugAssign(part, node.op, node.value), "an index, which is missing in", 3, None
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        yield from _neighbours(node, loops)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield from _brackets(node)
        if isinstance(node.left, ast.Name) and isinstance(node.right, ast.Name):
            for which in ("max", "min"):
                yield ast.Call(_function(which), [node.left, node.right], []), "the operator in", 4, None
    if _counts(node):
        yield from _other_counts(node)
    if isinstance(node, ast.For):
        yield from _of_a_loop(node, within)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        yield call("np.abs", node), "the magnitude, which is missing at", 5, None
    if _is_a_value(node) and isinstance(within, ast.Return | ast.Assign | ast.Tuple | ast.Call | ast.Dict):
        rank = 4 if isinstance(within, ast.Return | ast.Tuple) else 6
        yield call("np.exp", node), "an exp that is missing at", rank, None
        yield call("np.log", node), "a logarithm that is missing at", rank, None


def _brackets(node: ast.BinOp) -> Iterator[Change]:
    """Yield a + b * (c + d) for a + b * c + d, and (a + b).mean() for a.mean() + b."""
    left = node.left
    if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Add | ast.Sub) and isinstance(left.right, ast.BinOp):
        last = left.right
        if isinstance(last.op, ast.Mult | ast.Div):
            inner = ast.BinOp(last.left, last.op, ast.BinOp(last.right, node.op, node.right))
            yield ast.BinOp(left.left, left.op, inner), "the brackets in", 4, None
    for one, other in ((left, node.right), (node.right, left)):
        name = getattr(one.func, "attr", "") if isinstance(one, ast.Call) else ""
        if isinstance(one, ast.Call) and name in ("mean", "sum"):
            first = one is left
            made = _with_inner(
                one, lambda value, o=other, f=first: ast.BinOp(value if f else o, node.op, o if f else value)
            )
            if made is not None:
                yield made, f"what the `{name}` is taken of in", 3, None


def _counts(node: ast.AST) -> str:
    """Return the name of the array of which a node is a number: `len(x)`, `x.size`, `x[0].size`, `x.shape[1]`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len" and len(node.args) == 1:
        inner: ast.AST = node.args[0]
    elif isinstance(node, ast.Attribute) and node.attr == "size":
        inner = node.value
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
        inner = node.value.value
    else:
        return ""
    while isinstance(inner, ast.Subscript):
        inner = inner.value
    return inner.id if isinstance(inner, ast.Name) else ""


def _other_counts(node: ast.AST) -> Iterator[Change]:
    """Yield other numbers of an array's elements, rows, or values of a channel, in the place of one of them."""
    name = _counts(node)
    for text in COUNTS:
        other = _function(re.sub(r"\ba\b", name, text))
        if ast.dump(other) != ast.dump(node):
            yield other, "what is counted in", 4, None


def _of_a_loop(node: ast.For, within: ast.AST) -> Iterator[Change]:
    """Yield a loop with its `return` behind it, or with what was set to a number before it set in each turn."""
    last = node.body[-1]
    if isinstance(last, ast.Assign | ast.AugAssign) and len(node.body) > 2 and _is_result(last, node, within):
        made = ast.For(node.target, node.iter, node.body[:-1], node.orelse)
        yield [made, last], "what is done in each turn of the loop, and should be done once, after it:", 2, last
    if isinstance(last, ast.Return) and len(node.body) > 1:
        made = ast.For(node.target, node.iter, node.body[:-1], node.orelse)
        yield [made, last], "where `return` stands: a loop ends at its first one. It is", 2, last
    around = getattr(within, "body", [])
    at = around.index(node) if isinstance(around, list) and node in around else 0
    filled = {_filled(one) for part in node.body for one in ast.walk(part)} - {""}
    before = list(itertools.takewhile(lambda one: _begins(one, filled), reversed(around[:at])))[::-1]
    for some in [before, *([one] for one in before)] if before else []:
        made = ast.For(node.target, node.iter, [node.body[0], *some, *node.body[1:]], node.orelse)
        yield made, "what is set before the loop, and is to begin anew in each of its turns:", 2, some[0]


def _is_result(last: ast.Assign | ast.AugAssign, loop: ast.For, within: ast.AST) -> bool:
    """Whether a statement of a loop makes what is read after it."""
    targets = last.targets if isinstance(last, ast.Assign) else [last.target]
    made = {one.id for one in targets if isinstance(one, ast.Name)}
    around = getattr(within, "body", [])
    after = around[around.index(loop) + 1 :] if isinstance(around, list) and loop in around else []
    read = [one for part in after for one in ast.walk(part) if isinstance(one, ast.Name)]
    return any(one.id in made for one in read if isinstance(one.ctx, ast.Load))


def _filled(node: ast.AST) -> str:
    """Return the name of the array into a place of which a node writes, or ""."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
        return node.value.id
    return ""


def _begins(node: ast.AST, filled: set[str]) -> bool:
    """Whether a statement gives a name a number or an empty list, or makes an array that is filled later."""
    value = node.value if isinstance(node, ast.Assign) else None
    targets = [one for target in getattr(node, "targets", ()) for one in ast.walk(target)]
    if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id in filled for one in targets):
        return True
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    return all(isinstance(one, ast.Constant) or (isinstance(one, ast.List) and not one.elts) for one in parts)


def whole(node: ast.AST, function: ast.FunctionDef) -> Iterator[Change]:
    """Yield, for a name, the sums and products with it that stand in other lines, and that it may lack here."""
    if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
        return
    seen = {ast.dump(node)}
    for other in ast.walk(function):
        inside = isinstance(other, ast.BinOp) and other.lineno != node.lineno and (other.left, other.right)
        if inside and any(isinstance(one, ast.Name) and one.id == node.id for one in inside):
            text = ast.dump(other)
            if text not in seen:
                seen.add(text)
                yield other, "what another line has around", 5, None


def _is_a_value(node: ast.AST) -> bool:
    """Whether a node is a value of an array, and read."""
    known = isinstance(node, ast.Name | ast.Subscript) and isinstance(node.ctx, ast.Load)
    return known or isinstance(node, ast.BinOp | ast.Call)


def call(function: str, *arguments: Any) -> ast.Call:
    """Return the call of a function by its name."""
    return ast.Call(_function(function), list(arguments), [])


@functools.lru_cache(maxsize=100)
def _function(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _with_inner(node: ast.Call, change: Any) -> ast.Call | None:
    """Return a call with what it is of changed: the array of a method, else the first argument."""
    function = node.func
    if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") not in ("np", "xp", "math"):
        return ast.Call(ast.Attribute(change(function.value), function.attr, ast.Load()), node.args, node.keywords)
    if node.args and not isinstance(node.args[0], ast.Starred):
        return ast.Call(function, [change(node.args[0]), *node.args[1:]], node.keywords)
    return None


def _power_inside(node: ast.BinOp) -> Iterator[Change]:
    """Yield f(a ** b) for f(a) ** b."""
    if isinstance(node.left, ast.Call):
        inner = _with_inner(node.left, lambda value: ast.BinOp(value, node.op, node.right))
        if inner is not None:
            yield inner, "where the power stands in", 2, None


def _of_a_call(node: ast.Call) -> Iterator[Change]:
    first = _inner(node)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if isinstance(first, ast.BinOp) and isinstance(first.op, ast.Pow):  # f(a ** b), that should be f(a) ** b
        outer = _with_inner(node, lambda value: value.left)
        yield ast.BinOp(outer or first.left, first.op, first.right), "where the power stands in", 2, None
    if isinstance(node.func, ast.Name) and name == "sum":
        yield ast.Call(_function("np.prod"), node.args, node.keywords), "`sum` in", 2, None
    if name == "mean" and isinstance(first, ast.BinOp) and (base := _squared(first)) is not None:
        square = ast.BinOp(_with_inner(node, lambda value: base) or base, ast.Pow(), ast.Constant(2))
        yield ast.BinOp(node, ast.Sub(), square), "a term that a variance has, the square of a mean, at", 4, None
    if name in ("reshape", "transpose"):
        yield from _order_of_axes(node, name)
    if not isinstance(node.func, ast.Attribute):
        yield ast.Attribute(node, "imag", ast.Load()), "the imaginary part, which is to be taken of", 3, None


def _inner(node: ast.Call) -> ast.expr | None:
    """Return what a call is of: the array of a method, else the first argument."""
    function = node.func
    if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") not in ("np", "xp", "math"):
        return function.value
    return node.args[0] if node.args else None


def _squared(node: ast.BinOp) -> ast.expr | None:
    """Return a of a * a or a ** 2."""
    if isinstance(node.op, ast.Mult) and ast.dump(node.left) == ast.dump(node.right):
        return node.left
    return node.left if isinstance(node.op, ast.Pow) and getattr(node.right, "value", 0) == 2 else None


def _order_of_axes(node: ast.Call, name: str) -> Iterator[Change]:
    """Yield a reshape, or a transpose, with its axes in another order."""
    arguments, before = node.args, getattr(node.func, "value", None)
    if not isinstance(node.func, ast.Attribute) or not 3 <= len(arguments) <= AXES_MOVED:
        return
    orders = list(_moves(len(arguments)))
    if len(arguments) <= 4:
        orders = [order for order in itertools.permutations(range(len(arguments))) if order != (*range(len(order)),)]
    if name == "transpose":
        for order in orders:
            yield ast.Call(node.func, [arguments[i] for i in order], []), "the order of the axes in", 3, None
        numbers = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
        shaped = isinstance(before, ast.Call) and getattr(before.func, "attr", "") == "reshape"
        if (
            isinstance(before, ast.Call)
            and shaped
            and sorted(map(str, numbers)) == [*map(str, range(len(before.args)))]
        ):
            sizes = [before.args[int(str(i))] for i in numbers]
            yield ast.Call(before.func, sizes, []), "the order of the axes, from the first on, in", 3, None
        return
    for order in orders:
        sizes = [arguments[i] for i in order]
        back: list[ast.expr] = [ast.Constant(order.index(i)) for i in range(len(order))]
        made = ast.Call(node.func, sizes, [])
        yield ast.Call(ast.Attribute(made, "transpose", ast.Load()), back, []), "the order of the axes in", 5, None


def _moves(count: int) -> Iterator[tuple[int, ...]]:
    """Yield the orders in which one of some things has another place."""
    seen = set()
    for i, j in itertools.permutations(range(count), 2):
        order = [k for k in range(count) if k != i]
        order.insert(j, i)
        if tuple(order) not in seen:
            seen.add(tuple(order))
            yield tuple(order)


def _pairs(node: ast.Subscript) -> Iterator[Change]:
    """Yield a[arange(len(a)), index] for a[:, index], which takes each row with every index."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
    if len(parts) == 2 and isinstance(parts[0], ast.Slice) and not (parts[0].lower or parts[0].upper):
        every = ast.Call(_function("np.arange"), [call("len", _read(node.value))], [])
        made = ast.Subscript(node.value, ast.Tuple([every, parts[1]], ast.Load()), node.ctx)
        yield made, "the `:`, with which every row meets every index, in", 3, None


def _read(node: ast.expr) -> ast.expr:
    return ast.Name(node.id, ast.Load()) if isinstance(node, ast.Name) else node


def _neighbours(node: ast.Tuple, loops: list[str]) -> Iterator[Change]:
    """Yield a tuple with two neighbours changed alike: both one longer or shorter, or both moved by a loop's index."""
    for i, (first, second) in enumerate(itertools.pairwise(node.elts)):
        if isinstance(first, ast.Slice | ast.Constant) or isinstance(second, ast.Slice | ast.Constant):
            continue

        def made(op: ast.operator, a: ast.expr, b: ast.expr, i: int = i) -> ast.Tuple:
            changed = [ast.BinOp(node.elts[i], op, a), ast.BinOp(node.elts[i + 1], op, b)]
            return ast.Tuple([*node.elts[:i], *changed, *node.elts[i + 2 :]], ast.Load())

        one = ast.Constant(1)
        yield made(ast.Add(), one, one), "two neighbours, each one too small, in", 5, None
        yield made(ast.Sub(), one, one), "two neighbours, each one too large, in", 5, None
        if isinstance(first, ast.BinOp) and isinstance(second, ast.BinOp):  # h + i, w + j: 2 h + i, 2 w + j
            two = [ast.BinOp(ast.BinOp(ast.Constant(2), ast.Mult(), a.left), a.op, a.right) for a in (first, second)]
            new = ast.Tuple([*node.elts[:i], *two, *node.elts[i + 2 :]], ast.Load())
            yield new, "two neighbours, which both move too slowly, in", 5, None
        used = {name.id for part in (first, second) for name in ast.walk(part) if isinstance(name, ast.Name)}
        for a, b in itertools.pairwise(name for name in loops if name not in used):
            new = made(ast.Add(), ast.Name(a, ast.Load()), ast.Name(b, ast.Load()))
            yield new, f"two neighbours, which do not follow `{a}` and `{b}`, in", 5, None
