"""Where an answer goes wrong: the one small change in it with which its check passes.

A learner's function is changed in one place at a time, as a tutor would try it: a sign, an axis, a number, a variable,
a root, a factor that is missing. If the check passes then, the sentence names the place and the kind of the change,
and leaves the change itself to the learner. What is said is so always true of the answer that was given.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Set
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from minidl.lesson.edits import STRIDED, TICK, Edit, Several, counted, edits, quoted, together
from minidl.lesson.inputs import Inputs

SECONDS, TRIALS, WORK = (
    3.0,
    1500,
    math.inf,
)  # what a search may take, of the processor, in runs of the check, and in calls
WORK_OF_A_CHANGE = 50  # what it takes to make one, in the same unit
FEWEST = 20  # runs of a check, however much work one is
ENDLESS = 1.0  # seconds of a run that cannot end
OFTEN = 1000  # turns of which each is timed: a number may grow without end
TURNS = 2000  # of a loop, which a change may add to an answer's own
LONG = 70  # characters of a place that is quoted
UNSAFE = {
    "cast",
    "from_address",
    "system",
    "run",
    "Popen",
    "unlink",
    "open",
}  # another number may break more
Definition = ast.FunctionDef | ast.ClassDef
Check = Callable[[Any], set[str]]


class _EndlessError(Exception):
    """A changed loop does not end."""


class _Turns:
    """Counts the turns of loops, and ends a run that has too many or takes too long."""

    def __init__(self) -> None:
        self.count, self.most, self.until = 0, TURNS, math.inf

    def begin(self) -> None:
        """Count from the start."""
        self.count, self.until = 0, time.process_time() + min(SECONDS / 10, ENDLESS)

    def __call__(self, turns: int) -> bool:
        self.count += turns
        often = self.count > OFTEN and self.count % 100 >= turns
        if self.count > self.most or (not often and time.process_time() > self.until):
            raise _EndlessError
        return True


def repair(
    got: Callable[[], Any], bad: Check, trusted: Set[CodeType] = frozenset(), sure: Set[str] = frozenset()
) -> str:
    """Return a sentence about the change that makes an answer right, or "" if no single one was found.

    Parameters
    ----------
    got : the callable of a check, which calls the learner's functions by their names
    bad : gives the names of the arrays that are wrong in what got returned
    trusted : the code of functions that passed a check, and so are not to blame
    sure : the names of arrays that are not right by chance; a change that mends one of several wrong ones is told
    """
    if not isinstance(got, FunctionType):
        return ""
    space, inputs, begin = got.__globals__, Inputs(got, mentioned(got)), time.process_time()
    generators = [(g, g.bit_generator.state) for g in space.values() if isinstance(g, np.random.Generator)]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _search(got, bad, inputs, generators, begin, trusted, sure)
    finally:
        inputs.restore()
        for generator, state in generators:
            generator.bit_generator.state = state


def _search(
    got: Any, bad: Check, inputs: Inputs, generators: list[Any], begin: float, trusted: Set[CodeType], sure: Set[str]
) -> str:
    turns, trials = _Turns(), float(TRIALS)
    answers = list(answers_of(got, trusted))
    now: set[str] = set()
    for name, tree in answers:  # as they are, for the number of turns
        seen: list[set[str] | None] = []
        work = _calls(lambda name=name, tree=tree, seen=seen: seen.append(_with(got, name, tree, bad, turns)))  # type: ignore[misc]
        now = seen[0] or set()
        trials = max(FEWEST, min(TRIALS, WORK // (WORK_OF_A_CHANGE + (work + turns.count) / 3 + inputs.size / 200)))
        turns.most = max(turns.most, TURNS + 4 * turns.count)
        _reset(generators, inputs)
    candidates: list[tuple[Edit | Several, str, Definition]] = []
    for name, tree in answers:
        found = list(edits(tree))
        every: list[Edit | Several] = [*found, *together(found)]
        candidates += [(edit, name, tree) for edit in every]
    best, part = len(now), ""
    for edit, name, tree in sorted(candidates, key=lambda one: one[0].rank)[: int(trials)]:
        if time.process_time() - begin > SECONDS:
            break
        left = _with(got, name, edit.apply(tree), bad, turns)
        _reset(generators, inputs if edit.writes else None)
        if left == set():
            return _told(edit, tree, "it")
        if (
            left is not None
            and left < now
            and (now - left) & sure
            and len(left) < best
            and not isinstance(edit, Several)
        ):
            best, part = len(left), _told(edit, tree, " and ".join(f"`{key}`" for key in sorted(now - left)))
    return part


def _told(edit: Edit | Several, tree: Definition, what: str) -> str:
    """Say which change makes what right."""
    if isinstance(edit, Several):
        if edit.words.startswith("the order of the lines"):
            return f"Two lines in the other order make {what} right: {_place(edit.words, edit.node, tree)}"
        places = _distinct(_place(one.words, one.node, tree) for one in edit.changes)
        return f"The same slip is in {len(edit.changes)} places; {what} is right when all are changed: {places}"
    rest = "" if what == "it" else " Something else is wrong besides."
    return f"One change makes {what} right: {_place(edit.words, edit.node, tree)}{_elsewhere(edit.words, tree)}{rest}"


def _strided(array: Any, shape: Any = None, strides: Any = None, **options: Any) -> Any:
    """Return a view as `as_strided` gives it, where it stays within the array's memory."""
    array = np.asarray(array)
    shape, strides = array.shape if shape is None else shape, array.strides if strides is None else strides
    steps = [(size - 1) * step for size, step in zip(shape, strides, strict=True)]
    low, high = np.lib.array_utils.byte_bounds(array)
    begin = array.__array_interface__["data"][0]
    if min(shape) < 1 or begin + sum(step for step in steps if step < 0) < low:
        raise ValueError("the view begins before its array")
    if begin + sum(step for step in steps if step > 0) + array.itemsize > high:
        raise ValueError("the view ends after its array")
    return np.lib.stride_tricks.as_strided(array, shape, strides, **options)


def _calls(run: Callable[[], Any]) -> int:
    """Return how many calls of functions a run makes: its work, the same on every machine."""
    count, before = 0, sys.getprofile()

    def note(frame: Any, event: str, what: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def _reset(generators: list[Any], inputs: Inputs | None) -> None:
    for generator, state in generators:
        generator.bit_generator.state = state
    if inputs:
        inputs.restore()


def _with(got: Any, name: str, tree: Definition, bad: Check, turns: _Turns) -> set[str] | None:
    """Return what is wrong if the learner's definition is this tree; None if it does not run."""
    space = got.__globals__
    kept = space[name]
    turns.begin()
    try:
        space[TICK], space[STRIDED] = turns, _strided
        exec(compile(ast.Module([tree], []), "<repair>", "exec"), space)
        return bad(got())
    except Exception:
        return None
    finally:
        space[name] = kept
        space.pop(TICK, None)
        space.pop(STRIDED, None)


def _elsewhere(words: str, tree: Definition) -> str:
    """Say that a lost sign or factor may stand in another line, where there are several."""
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AugAssign | ast.Return)]
    product = any(word in words for word in ("sign", "factor", "number", "divisor", "multiplied", "`sum`", "`mean`"))
    return " What leads to that place, or on from it, may hold the same slip." if product and len(lines) > 2 else ""


def _place(words: str, node: ast.AST, tree: Definition) -> str:
    """Say where a change is: the code of the place, or the line that it is in if that is long."""
    function = next(
        (f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and any(n is node for n in ast.walk(f))),
        tree.name,
    )
    text = quoted(node)
    return f"in {function}, look at {words} `{text if len(text) <= LONG else text[: LONG - 1] + '…'}`."


def _distinct(places: Iterator[str]) -> str:
    """Return sentences about places, each once."""
    return ", and ".join(place.rstrip(".") for place in dict.fromkeys(places)) + "."


def answers_of(got: FunctionType, trusted: Set[CodeType]) -> Iterator[tuple[str, Definition]]:
    """Yield the learner's functions and classes that a check calls, the one defined last first."""
    space, home = got.__globals__, got.__code__.co_filename
    order = {name: place for place, name in enumerate(space)}
    for name, codes in sorted(_called_by(got).items(), key=lambda one: -order[one[0]]):
        learned = [code for code in codes if code.co_filename != home and code not in trusted]
        tree = _definition(learned[0].co_filename, name) if learned else None
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree is not None else []:
            if _called(call) == "as_strided":
                call.func = ast.copy_location(ast.Name(STRIDED, ast.Load()), call.func)
        inner = (
            {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)} if tree is not None else set()
        )
        if tree is not None and not UNSAFE & ({_called(node) for node in ast.walk(tree)} - inner):
            yield name, tree


def handed_over(got: Callable[[], Any]) -> dict[str, Any]:
    """Return the arrays of real numbers that a check itself mentions, and so hands to the learner's code, by name."""
    if not isinstance(got, FunctionType):
        return {}
    space, free = got.__globals__, dict(zip(got.__code__.co_freevars, got.__closure__ or (), strict=True))
    helpers = [code for code in codes(got) if code.co_filename == got.__code__.co_filename]
    names = dict.fromkeys(name for code in (got.__code__, *helpers) for name in _names(code))
    values = {name: space.get(name) for name in names} | {name: cell.cell_contents for name, cell in free.items()}
    return {n: v for n, v in values.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiu" and v.size}


def codes(got: Callable[[], Any], only: Set[str] | None = None) -> set[CodeType]:
    """Return the code of all functions of the notebook that a check calls, or of those with some names."""
    found = _called_by(got) if isinstance(got, FunctionType) else {}
    return {code for name, one in found.items() if only is None or name in only for code in one}


def _called_by(got: FunctionType) -> dict[str, list[CodeType]]:
    """Return the notebook's functions and classes that a check calls, with their code."""
    space = got.__globals__
    seen: dict[str, list[CodeType]] = {}
    waiting: list[CodeType] = [got.__code__]
    waiting += [f.cell_contents.__code__ for f in got.__closure__ or () if isinstance(f.cell_contents, FunctionType)]
    while waiting:
        for name in _names(waiting.pop()):
            value = space.get(name)
            if name in seen or getattr(value, "__module__", None) != space.get("__name__"):
                continue
            inner = [value] if isinstance(value, FunctionType) else []
            if isinstance(value, type):
                inner = [one for one in vars(value).values() if isinstance(one, FunctionType)]
            seen[name] = [one.__code__ for one in inner]
            waiting += seen[name]
    return {name: found for name, found in seen.items() if found}


def mentioned(got: Callable[[], Any]) -> set[str] | None:
    """Return the global and free names that a check and what it calls mention; None where that is not known."""
    if not isinstance(got, FunctionType):
        return None
    codes = [got.__code__, *(code for one in _called_by(got).values() for code in one)]
    codes += [f.cell_contents.__code__ for f in got.__closure__ or () if isinstance(f.cell_contents, FunctionType)]
    return {name for code in codes for name in (*_names(code), *code.co_freevars)}


def _called(node: ast.AST) -> str:
    """Return the last name of a call, or ""."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _names(code: CodeType) -> list[str]:
    """Return the global names that a code mentions, in its inner functions too."""
    found = list(code.co_names)
    for constant in code.co_consts:
        found += _names(constant) if isinstance(constant, CodeType) else []
    return found


def _definition(file: str, name: str) -> Definition | None:
    """Return the tree of a definition in a cell; None for one that only names what it is given."""
    try:
        cell = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return None
    found = [node for node in cell.body if isinstance(node, Definition) and node.name == name]
    if not found:
        return None
    body = [
        node for node in found[-1].body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    only = body[0] if len(body) == 1 else None
    if isinstance(only, ast.Return) and isinstance(only.value, ast.Dict) and _plain(only.value):
        return None
    return counted(found[-1])


def _plain(tree: ast.Dict) -> bool:
    """Whether a dictionary holds names and attributes alone, as a check's helper does."""
    return not any(isinstance(node, ast.BinOp) for node in ast.walk(tree))
