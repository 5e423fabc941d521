"""Every single change of a plain layer's source: each expression of each function is a place that can be wrong."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from minidl.check.variants.changes import Change, changes, of_loop
from minidl.check.variants.edited import BACKWARD, BOTH, FORWARD, HELPERS, Edited, functions
from minidl.check.variants.expressions import REDUCING, SOFTMAXES, called_function, said, text_of
from minidl.check.variants.words import COMMON_TARGETS, FORMS, TARGETS

SKIPPED = {"shape", "axes", "last", "length", "n", "grads", "convention", "modes", "border", "ties", "largest"}


LOOP = "loop of "
PASSES = {  # that a changed helper is called in
    "places": (FORWARD, BACKWARD, BOTH),
    "taps": (FORWARD, BACKWARD, BOTH),
    "padded": (FORWARD,),
    "cropped": (BACKWARD,),
}
PLACES = (
    ast.Constant,
    ast.Name,
    ast.Attribute,
    ast.BinOp,
    ast.UnaryOp,
    ast.Call,
    ast.IfExp,
    ast.Subscript,
    ast.Compare,
)


class Places(ast.NodeVisitor):
    """Finds the expressions of a function that may be another: each with the names that are there to stand for it."""

    def __init__(self, names: Sequence[str]) -> None:
        self.found: list[tuple[ast.expr, str, tuple[str, ...], bool]] = []
        self.names = dict.fromkeys(names)
        self.target = ""

    def visit_Assign(self, node: ast.Assign) -> None:
        """A statement: what it assigns is what its changes are about."""
        names = [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        written = ast.unparse(node.targets[0])
        if not SKIPPED & {*names, written} and "self.kept" not in ast.unparse(node):
            self.target = written
            self.expression(node.value, True)
        for name in names:
            self.names[name] = None

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The same with a type."""
        if node.value is not None:
            self.target = ast.unparse(node.target)
            self.expression(node.value, True)
            self.names[self.target] = None

    def visit_Return(self, node: ast.Return) -> None:
        """What a function returns."""
        if node.value is not None:
            self.target = "return"
            self.expression(node.value, True)

    def visit_If(self, node: ast.If) -> None:
        """A condition that may be true always, or never."""
        self.target = "if"
        self.found.append((node.test, "if", (), False))
        self.statements(node.body)
        self.statements(node.orelse)

    def visit_For(self, node: ast.For) -> None:
        """A loop."""
        self.target = "for"
        filled = [t.value.id for n in ast.walk(node) if isinstance(n, ast.Assign) for t in n.targets
                  if isinstance(t, ast.Subscript) and isinstance(t.value, ast.Name)]  # fmt: skip
        self.found.append((node.iter, f"{LOOP}{' and '.join(dict.fromkeys(filled)) or 'y'}", (), False))
        self.expression(node.iter, False)
        for name in (n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)):
            self.names[name] = None
        self.statements(node.body)

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call for its effect."""
        if isinstance(node.value, ast.Call):
            self.target = ast.unparse(node.value.func)
            for argument in node.value.args:
                self.expression(argument, True)
        elif isinstance(node.value, ast.Yield) and node.value.value is not None:
            self.target = "window"
            self.expression(node.value.value, False)

    def statements(self, body: Sequence[ast.stmt]) -> None:
        """Statements in turn."""
        for statement in body:
            self.visit(statement)

    def expression(self, node: ast.expr, top: bool) -> None:
        """An expression and what it consists of."""
        if isinstance(node, PLACES):
            self.found.append((node, self.target, tuple(self.names), top))
        if isinstance(node, ast.Call):
            for argument in node.args[: 1 if called_function(node) in (*REDUCING, *SOFTMAXES) else None]:
                self.expression(argument, False)
            if isinstance(node.func, ast.Attribute):
                self.expression(node.func.value, False)
        elif isinstance(node, ast.Subscript):
            if isinstance(node.value, ast.Name) or ast.unparse(node.value) == "self.params":
                return
            self.expression(node.value, False)
        elif isinstance(node, ast.Attribute):
            return
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.expression(child, False)


def spliced(source: str, node: ast.AST, new: str) -> str:
    """A source with the text of one expression replaced."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    raw = source.encode()
    a = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
    b = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
    return (raw[:a] + new.encode() + raw[b:]).decode()


@cache
def edits(layer: str) -> tuple[Edited, ...]:
    """Every single change of a layer, those of the forward pass first."""
    made: dict[Any, Edited] = {}
    for form, only in FORMS.get(layer, (((), ()),)):
        for function, source in functions(layer, form).items():
            if function in ("state", "saved", "start", "affine", "groups") or (only and function != "compute"):
                continue
            body = ast.parse(source).body[0]
            assert isinstance(body, ast.FunctionDef)
            walk = Places([a.arg for a in body.args.args if a.arg not in ("self", "training")])
            walk.statements(body.body)
            passes = PASSES.get(function, (BOTH,))
            for node, target, names, top in walk.found:
                if only and target not in only:
                    continue
                for words, new in of_place(node, source, layer, target, names, top):
                    changed = spliced(source, node, new)
                    for of in passes:
                        name = f"{where(layer, function, target, of)}, {words}"
                        says = f"the formula reads '{line_of(changed, node)}' there; the rest is right"
                        variant = Edited(
                            layer, name, says, (), derived="detach(" in new,
                            form=form, function=function, source=changed, of=of,
                        )  # fmt: skip
                        made.setdefault(variant.key, variant)
    return tuple(made.values())


def line_of(source: str, node: ast.AST) -> str:
    """The line of a changed source that an expression begins in."""
    return source.splitlines()[node.lineno - 1].strip().rstrip(":")  # type: ignore[attr-defined]


def of_place(node: ast.expr, source: str, layer: str, target: str, names: Sequence[str], top: bool) -> Iterator[Change]:
    """The changes of one place."""
    if target == "if":
        text = said(text_of(node, source))
        yield f"what holds for '{text}' alone is done always", "True"
        yield f"what holds for '{text}' is never done", "False"
        return
    if target.startswith(LOOP):
        yield from of_loop(text_of(node, source))
        return
    for words, new in changes(node, source, layer, names, top):
        if (
            isinstance(node, ast.BinOp)
            and text_of(node.left, source) == target
            and new == f"(({text_of(node.right, source)}))"
        ):
            words = "what is there is overwritten, where terms must add up"
        yield words, new


def where(layer: str, function: str, target: str, of: str) -> str:
    """Where a change is, in words."""
    if target.startswith(LOOP):
        return "in " + target.removeprefix(LOOP).replace("dimage", "dx")
    plain = re.sub(r"\[.*\]$", "", target).replace("self.", "")
    known = {**COMMON_TARGETS, **TARGETS.get(layer, {})}
    word = known.get(f"{function}.{plain}") or known.get(plain) or plain
    if function in HELPERS:
        if function in ("places", "taps"):
            return f"the windows in {of}" + {"window": ""}.get(plain, f", {word}")
        return {"cropped": "the crop of dx", "padded": f"the border in {of}"}[function]
    if plain == "return":
        word = "y" if function == "compute" else "the gradients"
    after = function == "gradients" and not word.startswith(("d", "the g")) and "backward" not in word
    return f"in {word}" + (" of backward" if after else "")
