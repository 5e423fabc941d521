"""A plain layer in which one expression is another: every term, axis, count, constant and order is a place that can be
wrong.

``edits.py`` makes them, from the source of the plain layer, one after the other; nothing is listed.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from minidl.check.plain import MODULES, arith, plain_source
from minidl.check.plain.base import Plain
from minidl.check.variants.kinds import Variant

HELPERS = ("places", "taps", "padded", "cropped")  # functions of the windows, which both passes call
MODULE = "module"  # a form that is written in a module of its own
BOTH, FORWARD, BACKWARD = "both passes", "the forward pass", "the backward pass"


@cache
def form_source(layer: str, form: tuple[tuple[str, str], ...]) -> str:
    """The source of a layer's module in one of its equal forms: texts replaced, or another module."""
    source = plain_source(layer)
    for old, new in form:
        if old == MODULE:
            source = inspect.getsource(importlib.import_module(f"minidl.check.plain.{new}"))
            continue
        if source.count(old) != 1:
            raise ValueError(f"form_source: {old!r} must occur once in {layer}, got {source.count(old)}")
        source = source.replace(old, new)
    return source


@cache
def functions(layer: str, form: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The source of each method of a layer, and of each helper that it calls."""
    tree = ast.parse(source := form_source(layer, form))
    found = {
        node.name: textwrap.dedent(ast.get_source_segment(source, node, padded=True) or "")
        for of in tree.body
        if isinstance(of, ast.ClassDef)
        for node in of.body
        if isinstance(node, ast.FunctionDef)
    }
    windows = importlib.import_module("minidl.check.plain.windows")
    for name in HELPERS:
        if f"{name}(" in source:
            found[name] = inspect.getsource(getattr(windows, name))
    return found


@cache
def namespace_of(layer: str, form: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """What the functions of a layer's module see; the class itself is ``Layer``."""
    name = f"minidl.check.plain.{MODULES[layer]}"
    space: dict[str, Any] = {**vars(arith), "np": np, "__name__": f"{name}_edited"}
    exec(compile(form_source(layer, form), f"<{layer} in another form>", "exec"), space)
    return space


def defined(source: str, space: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function of a source, which sees a namespace."""
    own = dict(space)
    exec(compile("from __future__ import annotations\n" + source, f"<{name} edited>", "exec"), own)
    made: Callable[..., Any] = own[name]
    return made


@dataclass(frozen=True)
class Edited(Variant):
    """A variant that has one expression of a plain layer replaced.

    ``function`` is the method or helper that is changed, ``source`` its source afterwards, ``form`` the equal form of
    the layer that was changed, and ``of`` says of a helper which pass calls the changed one.
    """

    form: tuple[tuple[str, str], ...] = ()
    function: str = ""
    source: str = ""
    of: str = BOTH

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from others."""
        return self.layer, self.form, self.function, self.source, self.of

    @property
    def of_gradients(self) -> bool:
        """Whether all that is changed is the backward pass."""
        return self.function == "gradients" or (self.function in HELPERS and self.of == BACKWARD)

    def plain(self, layer: str, options: dict[str, Any]) -> Plain:
        """Build the changed layer."""
        made: Plain = changed_class(self.layer, self.form, self.function, self.source, self.of)(layer, options)
        return made


@cache
def changed_class(layer: str, form: tuple[tuple[str, str], ...], function: str, source: str, of: str) -> Any:
    """The class of a layer with one function replaced."""
    space = namespace_of(layer, form)
    base = space["Layer"]
    if function not in HELPERS:
        return type("Layer", (base,), {function: defined(source, space, function)})
    windows = {**vars(arith), **vars(importlib.import_module("minidl.check.plain.windows"))}
    inner = {**space, function: defined(source, windows, function)}
    methods = functions(layer, form)
    passes = {FORWARD: ("compute",), BACKWARD: ("gradients",)}.get(of, ("compute", "gradients"))
    return type("Layer", (base,), {name: defined(methods[name], inner, name) for name in passes})
