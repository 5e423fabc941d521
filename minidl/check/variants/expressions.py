"""Expressions of a plain layer's source: as text, in words, and the axes of the arrays they make."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from minidl.check.variants.words import CALLED, DIMS, OF_PARAMS

REDUCING = ("total", "mean")
SOFTMAXES = ("softmax", "log_softmax")


def text_of(node: ast.AST, source: str) -> str:
    """An expression as it stands in a source."""
    return ast.get_source_segment(source, node) or ast.unparse(node)


def said(code: str) -> str:
    """An expression as a reader sees it: no indices, no options, sums for totals."""
    text = re.sub(r'self\.params\["([\w.]+)"\]', r"\1", code)
    text = re.sub(r'self\.options\["(\w+)"\]', r"\1", text)
    text = re.sub(r"\.reshape\((?:[^()]|\([^()]*\))*\)", "", text)
    text = re.sub(r"\[(?:[:\s,\d.]|None|-1)*\]", "", text)
    text = re.sub(r"\btotal\(", "sum(", text).replace("self.", "").replace(" * ", " ").replace("-", "−")
    return re.sub(r"\(([^(),]+), (?:axes|last|\(?[\d, ]+\)?)\)", r"(\1)", text)


def called(code: str) -> str:
    """What an expression is called, or the expression."""
    text = said(code)
    return CALLED.get(text, text)


def dims_of(node: ast.AST, layer: str) -> str:
    """The axes of an array as letters (1: of length 1), as far as they can be told from its source."""
    names = DIMS.get(layer, {})
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.BinOp):
        return merged(dims_of(node.left, layer), dims_of(node.right, layer))
    if isinstance(node, ast.UnaryOp):
        return dims_of(node.operand, layer)
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "self.params":
        return OF_PARAMS.get(layer, {}).get(str(ast.literal_eval(node.slice)), "")
    if isinstance(node, ast.Subscript):
        whole, index = dims_of(node.value, layer), node.slice
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        out, rest = "", list(whole)
        for part in parts:
            if isinstance(part, ast.Constant) and part.value is None:
                out += "1"
            elif isinstance(part, ast.Slice) and rest:
                out += rest.pop(0)
            elif isinstance(part, ast.Constant) and part.value is Ellipsis:
                after = sum(isinstance(p, ast.Constant) and p.value is None for p in parts) - out.count("1")
                out += "".join(rest[: len(rest) if after >= 0 else None])
                rest = []
            elif rest:
                rest.pop(0)
        return out + "".join(rest) if whole else ""
    if isinstance(node, ast.Call) and node.args:
        inner = dims_of(node.args[0], layer)
        if called_function(node) in REDUCING and len(node.args) == 2:
            axes = ast.literal_eval(node.args[1]) if is_literal(node.args[1]) else ()
            axes = (axes,) if isinstance(axes, int) else axes
            return "".join("1" if k in axes else letter for k, letter in enumerate(inner))
        return inner
    return ""


def merged(one: str, other: str) -> str:
    """The axes of two arrays together."""
    size = max(len(one), len(other))
    pairs = zip(one.rjust(size, "1"), other.rjust(size, "1"), strict=True)
    return "".join(b if a == "1" else a for a, b in pairs)


def is_literal(node: ast.AST) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, SyntaxError):
        return False
    return True


AXES = {
    "N": "the batch",
    "K": "the modes",
    "C": "the channels",
    "L": "the pixels",
    "O": "the outputs",
    "I": "the inputs",
    "H": "the height",
    "W": "the width",
    "G": "the groups",
    "V": "the values of a group",
    "1": "an axis of length 1",
}


def axis_words(axes: Sequence[int], dims: str) -> str:
    """What axes are called."""
    return " and ".join(AXES.get(dims[k], f"axis {k}") if k < len(dims) else f"axis {k}" for k in axes)


def called_function(node: ast.AST) -> str:
    """The name of the function that is called."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
