"""The small changes that a tutor tries in a wrong answer, the likely ones first."""

from __future__ import annotations

import ast
import copy
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minidl.lesson.arithmetic import called
from minidl.lesson.rewrites import MAKERS, changes
from minidl.lesson.slips import slips, whole

Definition = ast.FunctionDef | ast.ClassDef
TICK = "_minidl_tick"  # called in each turn of a loop, to notice one that does not end
MOST_PLACES = 6  # of one slip
LAST = 9  # the rank of the changes that are tried last
SURE, PAIRS = 2, 400  # the last rank of changes that are made two at a time, and the pairs of each kind
OF_AN_INDEX = (  # the beginnings of changes that make sense in one
    *("the number", "the variable", "the sign", "a 1, ", "the order", "where to begin", "two neighbours"),
    *("the `:`", "the step", "what another", "a term", "the index", "which axis", "the operator"),
    *("the brackets", "what is counted"),
)
STRIDED = "_minidl_strided"  # called in place of `as_strided`, to notice a view past the end of its array


@dataclass(frozen=True)
class Edit:
    """One change: the node that it replaces, by which, how it is spoken of, and how soon it is tried."""

    node: ast.AST
    path: tuple[tuple[str, int | None], ...]
    new: Any
    words: str
    rank: int
    writes: bool
    whole: ast.AST  # what is replaced

    def apply(self, tree: Definition) -> Definition:
        """Return a tree with the change made; the nodes that stay as they were are those of the tree given."""
        for one in self.new if isinstance(self.new, list) else [self.new]:
            ast.fix_missing_locations(ast.copy_location(one, self.node))
        made = at = copy.copy(tree)
        for field, index in self.path[:-1]:
            child = getattr(at, field)
            if index is None:
                at_next = copy.copy(child)
                setattr(at, field, at_next)
            else:
                at_next = copy.copy(child[index])
                setattr(at, field, [*child[:index], at_next, *child[index + 1 :]])
            at = at_next
        field, index = self.path[-1]
        if index is None:
            setattr(at, field, self.new)
        else:
            child, new = getattr(at, field), self.new if isinstance(self.new, list) else [self.new]
            setattr(at, field, [*child[:index], *new, *child[index + 1 :]])
        return made


@dataclass(frozen=True)
class Several:
    """Changes that are made together: the same slip in several places."""

    changes: tuple[Edit, ...]
    rank: int

    @property
    def node(self) -> ast.AST:
        """The first place."""
        return self.changes[0].node

    @property
    def words(self) -> str:
        """How it is spoken of."""
        return self.changes[0].words

    @property
    def writes(self) -> bool:
        """Whether a statement is changed."""
        return any(edit.writes for edit in self.changes)

    def apply(self, tree: Definition) -> Definition:
        """Return a tree with all changes made."""
        for edit in self.changes:
            tree = edit.apply(tree)
        return tree


def together(found: list[Edit]) -> Iterator[Several]:
    """Yield the changes that are one slip made several times: of equal code, or of one kind in two places."""
    nodes = {id(edit.whole): edit.whole for edit in found}
    text = {key: ast.dump(node) for key, node in nodes.items()}
    often = {one for one, count in Counter(text.values()).items() if count > 1}
    alike: dict[tuple[str, str], list[Edit]] = {}
    for edit in found:
        axis = edit.words == "the axis of"
        if not isinstance(edit.new, list) and (axis or text[id(edit.whole)] in often):
            key = _axes(edit) if axis else (text[id(edit.whole)], ast.dump(edit.new))
            alike.setdefault(key, []).append(edit)
    for group in alike.values():
        if 1 < len(group) <= MOST_PLACES and _apart(group):
            yield Several(tuple(group), group[0].rank + 1)
    yield from _exchanged(found)
    kinds: dict[str, list[Edit]] = {}
    for edit in found:
        if edit.rank <= SURE or edit.words.startswith("a 1, to be added"):
            kinds.setdefault(edit.words, []).append(edit)
    for group in kinds.values():
        for pair in itertools.islice(itertools.combinations(group, 2), PAIRS):
            if _apart(pair):
                yield Several(pair, LAST)


def _exchanged(found: list[Edit]) -> Iterator[Several]:
    """Yield each two neighbouring statements in the other order."""
    lines = {edit.path: edit for edit in found if edit.writes}
    for path, edit in lines.items():
        field, place = path[-1]
        after = lines.get((*path[:-1], (field, place + 1))) if place is not None else None
        if after is not None:
            words, rank = "the order of the lines, at", SURE
            first = Edit(edit.whole, path, copy.copy(after.whole), words, rank, True, edit.whole)
            second = Edit(after.whole, after.path, copy.copy(edit.whole), words, rank, True, after.whole)
            yield Several((first, second), rank + 1)


def _axes(edit: Edit) -> tuple[str, str]:
    """Return the axis of a sum or a mean, and the one that is tried."""

    def axis(call: Any) -> str:
        return next((ast.dump(one.value) for one in call.keywords if one.arg == "axis"), "")

    return axis(edit.whole), axis(edit.new)


def _apart(group: Sequence[Edit]) -> bool:
    """Whether no change is made inside of what another one replaces."""
    paths = [edit.path for edit in group]
    return not any(a == b[: len(a)] for a, b in itertools.permutations(paths, 2))


def counted(tree: Definition) -> Definition:
    """Return the tree with a call of `TICK` in each turn of each of its loops; one of `while` counts as ten."""
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.For | ast.While):
            turns = ast.Constant(10 if isinstance(node, ast.While) else 1)
            node.body.insert(0, ast.Expr(ast.Call(ast.Name(TICK, ast.Load()), [turns], [])))
        elif isinstance(node, ast.comprehension):
            node.ifs.append(ast.Call(ast.Name(TICK, ast.Load()), [ast.Constant(1)], []))
    return ast.fix_missing_locations(tree)


def _is_tick(node: Any) -> bool:
    call = node.value if isinstance(node, ast.Expr) else node
    return isinstance(call, ast.Call) and called(call) == TICK


def quoted(node: ast.AST) -> str:
    """Return the code of a node, as the learner wrote it."""
    return ast.unparse(node).replace(f" if {TICK}(1)", "").replace(STRIDED, "as_strided")


def edits(tree: Definition) -> Iterator[Edit]:
    """Yield every change of a definition."""
    for function, path in _functions(tree, ()):
        bound, loops = _locals(function), _bound_by_loops(function)
        sizes: set[int] = set()
        slices = [node.slice for node in ast.walk(function) if isinstance(node, ast.Subscript)]
        indices = {id(node) for one in slices for node in ast.walk(one)}
        for node, where, within in _walk(function, path, function):
            if isinstance(node, ast.Call) and called(node) in MAKERS:
                sizes.update(map(id, itertools.chain.from_iterable(map(ast.walk, node.args))))
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
                sizes.update(map(id, ast.walk(node.right)))
            if id(node) in sizes and isinstance(node, ast.Name | ast.BinOp | ast.Call | ast.Attribute | ast.Subscript):
                continue  # another size, or another power, may ask for any amount of memory
            line = getattr(node, "lineno", 0)
            names = [name for name, begins in bound.items() if begins < line]  # what has a value there
            tried = itertools.chain(changes(node, within, names), slips(node, within, loops), whole(node, function))
            for new, words, rank, place in tried:
                if id(node) in indices and not words.startswith(OF_AN_INDEX):
                    continue  # its square may be right by chance
                if isinstance(new, ast.Pass) and _is_read(node, function):
                    continue  # a name of the notebook would stand in for it
                yield Edit(place or node, where, new, words, rank, isinstance(node, ast.stmt), node)


def _is_read(node: ast.AST, function: ast.FunctionDef) -> bool:
    """Whether what a statement binds is read somewhere in the function."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    bound = {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    names = [one for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]
    return any(one.id in bound for one in names)


def _functions(tree: Any, path: Any) -> Iterator[tuple[ast.FunctionDef, Any]]:
    if isinstance(tree, ast.FunctionDef):
        yield tree, path
    else:
        for i, node in enumerate(tree.body):
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                yield node, (*path, ("body", i))


def _walk(node: ast.AST, path: Any, within: ast.AST) -> Iterator[tuple[ast.AST, Any, ast.AST]]:
    """Yield each node of a function's body with the way to it and the node it stands in."""
    for field, value in ast.iter_fields(node):
        if isinstance(node, ast.FunctionDef) and field not in ("body",):
            continue
        listed = value if isinstance(value, list) else [value]
        for i, child in enumerate(listed):
            if _is_tick(child):
                continue
            if isinstance(child, ast.AST) and not isinstance(child, ast.expr_context | ast.operator | ast.cmpop):
                where = (*path, (field, i if isinstance(value, list) else None))
                yield child, where, node
                yield from _walk(child, where, node)


def _locals(function: ast.FunctionDef) -> dict[str, int]:
    """Return the names that a function's arithmetic may use, its arguments and what it computes, with their lines."""
    found = {argument.arg: 0 for argument in function.args.args if argument.arg != "self"}
    for node in ast.walk(function):
        if isinstance(node, ast.comprehension):
            found |= {name.id: 0 for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = min(found.get(node.id, node.lineno), node.lineno)
    return found


def _bound_by_loops(function: ast.FunctionDef) -> list[str]:
    """Return the names that a function's loops bind, in their order."""
    targets = [node.target for node in ast.walk(function) if isinstance(node, ast.For)]
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
