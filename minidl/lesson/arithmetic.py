"""What a tutor changes in a wrong answer's arithmetic: a sign, an order, a bracket, a number, a term that it lacks."""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterator

from minidl.lesson.slips import Change

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


def called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@functools.lru_cache(maxsize=1000)
def parsed(text: str) -> ast.expr:
    """Return the expression that a text holds."""
    return ast.parse(text, mode="eval").body


def of_an_operation(node: ast.BinOp) -> Iterator[Change]:
    """Yield the operation with another sign, operator, order or bracket, or with one of its two parts alone."""
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


def _of_a_chain(node: ast.BinOp) -> Iterator[Change]:
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


def of_a_number(node: ast.Constant, within: ast.AST) -> Iterator[Change]:
    """Yield the numbers that may belong in the place of one: its neighbours, its double, its half, small ones."""
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


def of_a_value(node: ast.expr, within: ast.AST, names: list[str]) -> Iterator[Change]:
    """Yield what may be missing at a value: a root, a square, a factor, a term; or that it is another's."""
    reduced = isinstance(within, ast.Attribute) and within.attr in REDUCE and getattr(node, "id", "") in names
    if (isinstance(within, ast.Attribute | ast.keyword | ast.Slice) and not reduced) or isinstance(node, ast.Constant):
        return
    if isinstance(node, ast.Name):
        whole = within if isinstance(within, ast.expr) else None
        at = within.func if isinstance(within, ast.Call) else None
        owner = getattr(at.value, "id", "") if isinstance(at, ast.Attribute) else ""
        for other in names:
            if other != node.id and node.id in names and other != owner:  # a list in itself has no end
                yield parsed(other), f"the variable `{node.id}` in", 4, whole
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
    yield ast.Call(parsed("len"), [node], []), "`len`, which is missing at", 5, None
    clipped = ast.Call(parsed("np.maximum"), [node, ast.Constant(0)], [])
    yield clipped, "the negative values, which are to become zero, at", 5, None
    if not factor:  # else the whole product is tried
        for number, rank in ((two, 4), (half, 4), (ast.Constant(3), 7), (ast.Constant(4), 7)):
            yield ast.BinOp(node, ast.Mult(), number), "a factor, a number, that is wrong at", rank, None
    if isinstance(within, ast.Return) and not isinstance(node, ast.Name):
        for given in names:
            yield parsed(given), "what is returned:", 4, None
    for given in names:
        second, said = parsed(given), f"`{given}`"
        if getattr(node, "id", "") == given:
            continue  # twice a value is a factor, and nothing of it no help
        if not factor:
            yield ast.BinOp(node, ast.Mult(), second), f"{said}, a factor that is missing at", 5, None
            yield ast.BinOp(node, ast.Div(), second), f"{said}, a divisor that is missing at", 5, None
            rest = ast.BinOp(ast.Constant(1), ast.Sub(), second)
            yield ast.BinOp(node, ast.Mult(), rest), f"1 − {said}, a factor that is missing at", 5, None
            length = ast.Call(parsed("len"), [second], [])
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
                    ast.Call(parsed(which), [node, second], []),
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
            product, said = ast.BinOp(parsed(a), ast.Mult(), parsed(b)), f"`{a} * {b}`"
            yield ast.BinOp(node, ast.Sub(), product), f"{said}, a term that is missing at", 8, None
            yield ast.BinOp(node, ast.Add(), product), f"{said}, a term that is missing at", 8, None
