"""What a wrong answer leaves out: an argument that is never used, an error, all turns of a loop but the last."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Set
from types import CodeType, FunctionType
from typing import Any

from minidl.lesson.repair import answers_of

SMALL = 1e-3  # a number that is there against a division by zero, most likely


def unused(
    got: Callable[[], Any], trusted: Set[CodeType] = frozenset(), keys: Mapping[str, list[str]] | None = None
) -> str:
    """Say what the learner's function never does: raise its error, or use an argument or a result of its own.

    `keys` has what the dictionaries hold that a function is given, by "function.argument".
    """
    for name, tree in answers_of(got, trusted) if isinstance(got, FunctionType) else ():
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            for argument in function.args.args:
                known = (keys or {}).get(f"{function.name}.{argument.arg}", [])
                if unread := _unread(function, argument.arg, known):
                    return (
                        f"{function.name} never reads `{unread}` of `{argument.arg}`, which holds {', '.join(known)}."
                    )
            names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
            loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
            if missing := _not_raised(function):
                return f"{function.name} is to raise {missing}, and no line of it raises that."
            if place := _written_over(function):
                return (
                    f"{function.name} writes into `{place}` in a loop: where two turns have the same index, only the "
                    "later one is left. Is it to be added up?"
                )
            if lost := _replaced_in_a_loop(function):
                return (
                    f"{function.name} gives `{lost}` a new value in each turn of the loop, and only that of the last "
                    "turn is left: is it to be added up, or collected?"
                )
            required = function.args.args[: len(function.args.args) - len(function.args.defaults)]
            given = [argument.arg for argument in required if argument.arg not in (*loaded, "self")]
            if "backward" in function.name:
                given = [one for one in given if one != "bias"]
            loaded |= _taken_apart(function)
            made = [node.id for node in names if isinstance(node.ctx, ast.Store) and node.id not in loaded | {"_"}]
            if given and len(function.body) > 1 - (name == function.name):
                return f"{function.name} is given `{given[0]}` and never uses it."
            if made:
                return f"{function.name} computes `{made[0]}` and never uses it."
    return ""


def _taken_apart(function: ast.FunctionDef) -> set[str]:
    """Return the names that a call gives among others, or that a loop counts with: they may rest unused."""
    nodes = list(ast.walk(function))
    parts = [node.target for node in nodes if isinstance(node, ast.For | ast.comprehension)]
    for node in nodes:
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Tuple):
            parts += [target for target in node.targets if isinstance(target, ast.Tuple)]
    return {one.id for part in parts for one in ast.walk(part) if isinstance(one, ast.Name)}


def _unread(function: ast.FunctionDef, name: str, keys: list[str]) -> str:
    """Return a key of a dictionary that a function never reads, though it reads others by their names."""
    uses = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
    read = [
        getattr(node.slice, "value", None)
        for node in ast.walk(function)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == name
    ]
    return next((key for key in keys if key not in read), "") if len(read) == len(uses) and None not in read else ""


def _not_raised(function: ast.FunctionDef) -> str:
    """Return an error that the docstring of a function promises, and that no line of it raises."""
    text = ast.get_docstring(function) or ""
    raising = [node for node in ast.walk(function) if isinstance(node, ast.Raise | ast.Assert)]
    written = " ".join("AssertionError" if isinstance(node, ast.Assert) else ast.unparse(node) for node in raising)
    promised = re.findall(r"\w+Error", text) if re.match(r"Raises? \w+", text) else []
    return next((name for name in promised if name not in written), "")


def _written_over(function: ast.FunctionDef) -> str:
    """Return a place that a loop assigns to by an index that is itself looked up, as in `a[k[i]] = b`."""
    for loop in [node for node in ast.walk(function) if isinstance(node, ast.For)]:
        for node in [one for part in loop.body for one in ast.walk(part) if isinstance(one, ast.Assign)]:
            for target in node.targets:
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Subscript):
                    return ast.unparse(target)
    return ""


def small_constants(got: Callable[[], Any], trusted: Set[CodeType] = frozenset()) -> str:
    """Name the small numbers that the learner's own formula adds, which show where only digits are missing."""
    for name, tree in answers_of(got, trusted) if isinstance(got, FunctionType) else ():
        for node in ast.walk(tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
                value = getattr(node.right, "value", None)
                if isinstance(value, float) and 0 < abs(value) < SMALL:
                    return f"In {name}, look at `{ast.unparse(node)}`: what it adds is in the result."
    return ""


def _replaced_in_a_loop(function: ast.FunctionDef) -> str:
    """Return a name that each turn of a loop gives a value, that no turn reads, and that is read behind the loop."""
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    for loop in [node for node in ast.walk(function) if isinstance(node, ast.For)]:
        inside = [node for part in loop.body for node in ast.walk(part)]
        targets = [target for node in inside if isinstance(node, ast.Assign) for target in node.targets]
        added = {getattr(node.target, "id", "") for node in inside if isinstance(node, ast.AugAssign)}
        read = {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        end = loop.end_lineno or loop.lineno
        later = {node.id for node in names if isinstance(node.ctx, ast.Load) and node.lineno > end}
        for target in targets:
            if isinstance(target, ast.Name) and target.id in later - read - added:
                return target.id
    return ""
