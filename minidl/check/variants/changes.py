"""What may stand in the place of one expression of a plain layer, in words and as text.

A term left out or of the wrong sign, a factor missing or inverted, another axis or a sum for a mean, another variable,
a constant, a function left out or put in, the first for all, a count too many.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from minidl.check.variants.expressions import (
    REDUCING,
    SOFTMAXES,
    axis_words,
    called,
    called_function,
    dims_of,
    is_literal,
    said,
    text_of,
)
from minidl.check.variants.words import DIMS, SCALES, TUPLES

Change = tuple[str, str]  # in words, and the new text
MAPS: tuple[tuple[str, str], ...] = (
    ("{} is detached", "detach({})"),
    ("{} has the wrong sign", "(-({}))"),
    ("{} is doubled", "(2 * ({}))"),
    ("{} is halved", "(({}) / 2)"),
    ("the magnitude of {} is taken", "np.absolute({})"),
    ("{} is squared", "(({}) * ({}))"),
    ("the root of {} is taken", "sqrt(np.absolute({}))"),
    ("{} is cut off below 0", "np.maximum({}, 0)"),
    ("{} is inverted", "(1 / ({}))"),
    ("{} is exponentiated", "exp({})"),
    ("1 is added to {}", "(1 + ({}))"),
    ("{} is subtracted from 1", "(1 - ({}))"),
)
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//"}
WHOLE_NUMBERS = {
    "a": ("b", "kernel[0] - 1 - a"), "b": ("a", "kernel[1] - 1 - b"), "top": ("left", "0"), "left": ("top", "0"),
    "rows": ("columns",), "columns": ("rows",), "groups": ("1",), "high": ("wide",), "wide": ("high",),
}  # fmt: skip
NUMBERS = ("eps", "lam")  # that a change may be made of, beside arrays


def of_call(node: ast.Call, source: str, layer: str) -> Iterator[Change]:
    """Other reductions, other axes, other gates."""
    name, arguments = called_function(node), [text_of(a, source) for a in node.args]
    what = called(text_of(node, source))
    if name in REDUCING and len(arguments) == 2:
        other = {"total": "mean", "mean": "total"}[name]
        word = "sum" if name == "total" else "mean"
        yield f"the {word} in {what} is left out", f"({arguments[0]})"
        yield f"{what} is a {'mean' if other == 'mean' else 'sum'}", f"{other}({', '.join(arguments)})"
        dims = dims_of(node.args[0], layer)
        number = len(dims) or 4
        literal = ast.literal_eval(node.args[1]) if is_literal(node.args[1]) else None
        own = (literal,) if isinstance(literal, int) else literal
        candidates: list[tuple[int, ...]] = [(k,) for k in range(number)] + [
            (a, b) for a in range(number) for b in range(a + 1, number)
        ]
        candidates += [tuple(range(number))] if number > 2 else []
        for axes in candidates:
            if axes != own:
                yield (
                    f"the {word} in {what} is over {axis_words(axes, dims)}",
                    f"(0 * {name}({', '.join(arguments)}) + {name}({arguments[0]}, {axes}))",
                )
        for place, pick in (("first", "[0]"), ("last", "[-1]")):
            if own and len(own) == 1:
                at = ", ".join([":"] * own[0] + [pick])
                yield (
                    f"{what} is that of the {place} of {axis_words(own, dims)} alone",
                    f"({arguments[0]})[{at}]",
                )
        return
    if name in SOFTMAXES:
        yield from of_softmax(name, what, arguments)
    elif len(arguments) == 1 and name in ("sqrt", "exp", "log", "clamp"):
        yield f"the function {name} is left out of {what}", f"({arguments[0]})"


def of_softmax(name: str, what: str, arguments: Sequence[str]) -> Iterator[Change]:
    """Other gates than a softmax."""
    z, axis = arguments
    log = ("log({})" if name == "log_softmax" else "{}").format
    for k, word in ((0, "the batch"), (1, "the second axis"), (2, "the last axis")):
        if str(k) != axis:
            yield f"the softmax in {what} is over {word}", f"{name}({z}, {k})"
    e, p = f"exp({z})", f"softmax({z}, {axis})"
    top = f"real({p}).max(axis={axis}, keepdims=True)"
    for words, new in (
        ("is not divided by its sum", e),
        ("is that of the magnitudes, divided by their sum", f"(np.absolute({z}) / total(np.absolute({z}), {axis}))"),
        ("is a sigmoid", f"(1 / (1 + exp(-({z}))))"),
        ("is a sigmoid divided by its sum", f"((1 / (1 + exp(-({z})))) / total(1 / (1 + exp(-({z}))), {axis}))"),
        ("is a ReLU divided by its sum", f"(np.maximum({z}, 0) / total(np.maximum({z}, 0), {axis}))"),
        ("is a ReLU", f"np.maximum({z}, 0)"),
        ("is a softplus divided by its sum", f"(log(1 + {e}) / total(log(1 + {e}), {axis}))"),
        ("is the logits themselves", f"({z})"),
        ("is divided by the root of the sum of squares", f"({p} / sqrt(total({p} * {p}, {axis})))"),
        ("is taken of the logits' norm", f"(({z}) / sqrt(total(({z}) * ({z}), {axis})))"),
        ("is squared and divided by its sum again", f"({p} * {p} / total({p} * {p}, {axis}))"),
        ("is the root of a softmax", f"sqrt({p})"),
        ("is a squared softmax", f"({p} * {p})"),
        ("is divided by its largest", f"({p} / ({top}))"),
        ("is a softmax twice", f"softmax({p}, {axis})"),
        ("is uniform", f"(0 * {p} + 1 / {p}.shape[{axis}])"),
        ("is hard: 1 for the largest", f"(0 * {p} + ({p} >= {top}))"),
        ("is 0 but for the largest", f"({p} * ({p} >= {top}))"),
        ("has a temperature of 2", f"softmax(({z}) / 2, {axis})"),
        ("has a temperature of 1/2", f"softmax(({z}) * 2, {axis})"),
        ("has 1 added to the sum of its exponentials", f"({e} / (1 + total({e}, {axis})))"),
        ("is a soft minimum: the logits have the wrong sign", f"softmax(-({z}), {axis})"),
        ("has the base 2", f"softmax(({z}) * np.log(2.0), {axis})"),
        ("is mixed with the uniform one, by 0.1", f"(0.9 * {p} + 0.1 / {p}.shape[{axis}])"),
    ):
        yield f"the softmax in {what} {words}", log(new)


def of_operation(node: ast.BinOp, source: str) -> Iterator[Change]:
    """A term or a factor left out, or of the wrong sign or side."""
    kind = type(node.op)
    if kind not in OPERATORS:
        return
    left, right = text_of(node.left, source), text_of(node.right, source)
    one, other, whole = called(left), called(right), called(text_of(node, source))
    if kind in (ast.Add, ast.Sub):
        sign = "-" if kind is ast.Sub else ""
        yield f"the term {said(sign)}{one} is missing in {whole}", f"({sign}({right}))"
        yield f"the term {said(sign)}{other} is missing in {whole}", f"({left})"
        yield (
            f"the term {other} has the wrong sign in {whole}",
            f"(({left}) {'+' if kind is ast.Sub else '-'} ({right}))",
        )
        yield f"the term {other} is there twice in {whole}", f"({left} {OPERATORS[kind]} 2 * ({right}))"
        yield f"{one} multiplies where it is added in {whole}", f"(({left}) * ({right}))"
    elif kind is ast.Mult:
        yield f"the factor {one} is missing in {whole}", f"({right})"
        yield f"the factor {other} is missing in {whole}", f"({left})"
        yield f"{other} divides where it multiplies in {whole}", f"(({left}) / ({right}))"
        yield f"{one} divides where it multiplies in {whole}", f"(({right}) / ({left}))"
        yield f"{other} is added where it multiplies in {whole}", f"(({left}) + ({right}))"
        yield f"the factor {other} is there twice in {whole}", f"(({left}) * ({right}) * ({right}))"
        yield f"the factor {one} is there twice in {whole}", f"(({left}) * ({left}) * ({right}))"
    elif kind is ast.Div:
        yield f"{one} is not divided by {other}", f"({left})"
        yield f"{one} is multiplied by {other} where it is divided", f"(({left}) * ({right}))"
        yield f"{one} is divided by {other} twice", f"(({left}) / ({right}) / ({right}))"
        yield f"{one} is divided by the root of {other}", f"(({left}) / np.sqrt({right}))"
        yield f"{one} is divided by {other} − 1", f"(({left}) / np.maximum(({right}) - 1, 1))"
        yield f"{one} is divided by {other} + 1", f"(({left}) / (({right}) + 1))"
    elif kind is ast.FloorDiv:
        yield f"{whole} is rounded up", f"(-(-({left}) // ({right})))"
        yield f"{whole} is not divided", f"({left})"


def of_tuple(name: str) -> Iterator[Change]:
    """Another stride, padding, kernel or dilation."""
    yield f"{name} of height and width are swapped", f"{name}[::-1]"
    yield f"{name} of the height is used for both", f"({name}[0], {name}[0])"
    yield f"{name} of the width is used for both", f"({name}[1], {name}[1])"
    least = 0 if name == "padding" else 1
    yield f"{name} is ignored", f"({least}, {least})"
    yield f"{name} is one too large", f"({name}[0] + 1, {name}[1] + 1)"
    yield f"{name} is one too small", f"(max({name}[0] - 1, {least}), max({name}[1] - 1, {least}))"
    yield f"{name} is doubled", f"(2 * {name}[0], 2 * {name}[1])"
    for other in TUPLES:
        if other != name:
            yield f"{other} stands for {name}", other


def of_part(name: str, text: str) -> Iterator[Change]:
    """Another number than that of the height, or of the width."""
    axis = text[-2]
    word, other = {"0": ("height", "width"), "1": ("width", "height")}.get(axis, ("height", "width"))
    yield f"the {name} of the {other} stands for that of the {word}", f"{name}[{1 - int(axis)}]"
    yield f"the {name} of the {word} is ignored", "0" if name == "padding" else "1"
    yield f"the {name} of the {word} is doubled", f"(2 * {text})"
    yield f"the {name} of the {word} is one too large", f"({text} + 1)"
    yield f"the {name} of the {word} is one too small", f"({text} - 1)"
    for stands in TUPLES:
        if stands != name:
            yield f"the {stands} of the {word} stands for its {name}", f"{stands}[{axis}]"


def of_array(text: str, what: str, axes: int, dims: str) -> Iterator[Change]:
    """What may be done to an array along its axes."""
    for k in range(axes):
        word = axis_words([k], dims)
        before = ":, " * k
        if dims[k : k + 1] == "1":
            continue
        yield f"{what} is that of the first of {word} for all", f"(0 * ({text}) + ({text})[{before}:1])"
        yield f"{what} is that of the last of {word} for all", f"(0 * ({text}) + ({text})[{before}-1:])"
        yield f"{what} is averaged over {word}, the same for all", f"(0 * ({text}) + mean({text}, {k}))"
        yield f"{what} is summed over {word}, the same for all", f"(0 * ({text}) + total({text}, {k}))"
        yield f"{what} is in reversed order along {word}", f"({text})[{before}::-1]"
        yield f"{what} is divided by its sum over {word}", f"(({text}) / total({text}, {k}))"
        yield f"{what} has its mean over {word} subtracted", f"(({text}) - mean({text}, {k}))"
        yield f"{what} is shifted by one along {word}", f"({text})[{before}np.arange(({text}).shape[{k}]) - 1]"


def changes(node: ast.expr, source: str, layer: str, names: Sequence[str], top: bool) -> Iterator[Change]:
    """What may stand in the place of an expression."""
    text, arrays = text_of(node, source), DIMS.get(layer, {})
    what = called(text)
    if isinstance(node, ast.Constant):
        yield from of_constant(node.value, text)
    elif isinstance(node, ast.Compare):
        yield from of_comparison(node, source, what)
    elif isinstance(node, ast.Name) and node.id in TUPLES:
        yield from of_tuple(node.id)
    elif isinstance(node, ast.Name) and node.id in WHOLE_NUMBERS:
        for other in WHOLE_NUMBERS[node.id]:
            yield f"{other} stands for {node.id}", f"({other})"
        yield f"{node.id} is one too large", f"({node.id} + 1)"
        yield f"{node.id} is one too small", f"({node.id} - 1)"
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in TUPLES:
        yield from of_part(node.value.id, text)
    if isinstance(node, ast.BinOp):
        yield from of_operation(node, source)
    if isinstance(node, ast.Call):
        yield from of_call(node, source, layer)
    dims = dims_of(node, layer)
    if not dims and said(text) not in NUMBERS:
        return
    yield f"{what} is missing, 0 stands for it", f"(0 * ({text}))"
    single = top or isinstance(node, (ast.Name, ast.Subscript))
    for words, new in MAPS if single else MAPS[:4]:
        yield words.format(what), new.replace("{}", text)
    if isinstance(node, (ast.Name, ast.Subscript)):
        base = node.value if isinstance(node, ast.Subscript) else node
        for name in names:
            if name in arrays and name != ast.unparse(base):
                if fitting(arrays[name], dims):
                    yield f"{called(name)} stands for {what}", name
                if isinstance(node, ast.Subscript) and fitting(arrays[name], dims_of(base, layer)):
                    yield (
                        f"{called(name)} stands for {called(ast.unparse(base))}",
                        name + text[len(text_of(base, source)) :],
                    )
    if single and not set(dims) & {"R", "P"}:
        yield from of_array(text, what, len(dims), dims)
    if single or isinstance(node, ast.Call):
        for words, count in SCALES.get(layer, ()):
            yield f"{what} is multiplied by {words}", f"(({text}) * ({count}))"
            yield f"{what} is divided by {words}", f"(({text}) / ({count}))"
            yield f"{what} is divided by the root of {words}", f"(({text}) / np.sqrt({count}))"
            yield f"{what} is multiplied by the root of {words}", f"(({text}) * np.sqrt({count}))"
    if top:
        for name in names:
            if fitting(arrays.get(name, "?"), dims):
                yield f"{what} is 0 where {called(name)} is negative", f"(({text}) * ({name} > 0))"


def fitting(one: str, other: str) -> bool:
    """Whether an array of some axes can stand for one of others."""
    if len(one) != len(other):
        return False
    return all(a == b or "1" in (a, b) for a, b in zip(one, other, strict=True))


def of_constant(value: Any, text: str) -> Iterator[Change]:
    """Another number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        for other in dict.fromkeys((0, 1, 2, value + 1, value - 1)):
            if other != value:
                yield f"{other} stands for {text}", f"({other})"


def of_comparison(node: ast.Compare, source: str, what: str) -> Iterator[Change]:
    """Another comparison."""
    left, right = text_of(node.left, source), text_of(node.comparators[0], source)
    sign = ast.unparse(node)[len(ast.unparse(node.left)) :].split()[0]
    for other, word in {">": ((">=", "≥"), ("<", "<")), ">=": ((">", ">"), ("<=", "≤"))}.get(sign, ()):
        yield f"{word} stands for {sign} in {what}", f"({left} {other} {right})"


def of_loop(text: str) -> Iterator[Change]:
    """Some of the loop's steps left out, or in another order."""
    yield "the loop leaves out its first step", f"list({text})[1:]"
    yield "the loop leaves out its last step", f"list({text})[:-1]"
    yield "the loop makes its first step alone", f"list({text})[:1]"
    yield "the loop makes its last step alone", f"list({text})[-1:]"
    yield "the loop's steps are in reversed order", f"list({text})[::-1]"
    if "places(" in text or "taps(" in text:
        for axis, word in ((0, "row"), (1, "column")):
            k = f"kernel[{axis}] - 1"
            yield f"the first {word} of the kernel is left out", f"[t for t in {text} if t[{axis}] or not {k}]"
            yield f"the last {word} of the kernel is left out", f"[t for t in {text} if t[{axis}] < {k} or not {k}]"
