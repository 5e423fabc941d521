"""Read a lesson's source, and refuse one that breaks the course's form, with its file and line."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lessons.machinery.names import names_of

HEADER = re.compile(
    r"# ---\n# jupyter:\n#   minidl:\n"
    r'#     title: (?P<quote>"?)(?P<title>.+)(?P=quote)\n#     minutes: (?P<minutes>\d+)\n'
    r'#     needs: \[(?P<needs>(?:"\d\d"(?:, "\d\d")*)?)\]\n#     checks: (?P<checks>\d+)\n# ---\n'
)
MARKER = re.compile(r'# %%(?P<markdown> \[markdown\])?(?: tags=\["(?P<tag>\w+)"\])?')
WRONG = re.compile(r"# check: (?P<check>.+)\n# says: (?P<says>.+)\n")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
START = """try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("{number}", checks={checks})"""
FOLDED = ("check", "figure")  # a check's cell holds its answer, a figure's is long: a click opens either
TAGS = ("start", "wrong", *FOLDED)
CELLS, LINES = range(15, 27), 250  # the last cell lists what passed, and nothing else
IMPORTS = {"numpy", "matplotlib", "minidl", *sys.stdlib_module_names}
Functions = ast.FunctionDef | ast.AsyncFunctionDef


class SourceError(Exception):
    """One line: file, line, what is wrong, what to do."""


@dataclass(frozen=True)
class Cell:
    """A cell as it stands in the source; ``line`` is the line of the file on which its text begins."""

    kind: str
    tag: str
    text: str
    line: int
    check: str = ""
    says: str = ""


@dataclass(frozen=True)
class Source:
    """A lesson: what its header says, and its cells."""

    path: Path
    number: str
    title: str
    minutes: int
    needs: tuple[str, ...]
    checks: int
    cells: tuple[Cell, ...] = field(repr=False)

    def fault(self, line: int, what: str) -> SourceError:
        """Return the error of a line."""
        return SourceError(f"{self.path}:{line}: {what}")

    @property
    def name(self) -> str:
        """The file's name without its ending: ``05_batch_norm``."""
        return self.path.stem

    def tagged(self, tag: str) -> list[Cell]:
        """The cells with this tag, in order."""
        return [cell for cell in self.cells if cell.tag == tag]


def read(path: Path) -> Source:
    """Read a lesson's source and hold it against every rule of the form.

    Raises
    ------
    SourceError
        With the first rule that is broken: "file:line: what; what to do".
    """
    text = path.read_text(encoding="utf-8")
    head = HEADER.match(text)
    if head is None:
        raise SourceError(
            f"{path}:1: the header must be `# ---`, `# jupyter:`, `#   minidl:`, title, minutes, needs, checks, `# ---`"
        )
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem):
        raise SourceError(f"{path}:1: the file must be called NN_name.py")
    needs = tuple(re.findall(r"\d\d", head["needs"]))
    cells = tuple(_cells(path, text, head.end()))
    source = Source(path, path.stem[:2], head["title"], int(head["minutes"]), needs, int(head["checks"]), cells)
    for rule in (_title, _start, _checks, _wrong, _code, _kept, _size, _done):
        rule(source)
    return source


def _cells(path: Path, text: str, begin: int) -> list[Cell]:
    """Cut the text behind the header at its ``# %%`` lines."""
    lines = text.splitlines()
    first = text.count("\n", 0, begin)
    starts = [i for i in range(first, len(lines)) if lines[i].startswith("# %%")]
    for i in range(first, starts[0] if starts else len(lines)):
        if lines[i].strip():
            raise SourceError(f"{path}:{i + 1}: text outside a cell; put it behind a `# %%` line")
    cells = []
    for i, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        marker = MARKER.fullmatch(lines[i].rstrip())
        tag = (marker["tag"] or "") if marker else ""
        if marker is None or (tag and (tag not in TAGS or marker["markdown"])):
            raise SourceError(
                f"{path}:{i + 1}: a cell begins `# %%`, `# %% [markdown]` or `# %% tags=[...]` with one of "
                f"{', '.join(TAGS)}, got `{lines[i]}`"
            )
        body = range(i + 1, end)
        kept = [j for j in body if lines[j].strip()]
        if not kept:
            raise SourceError(f"{path}:{i + 1}: the cell is empty; leave it out")
        span = range(kept[0], kept[-1] + 1)
        kind = "markdown" if marker["markdown"] else "code"
        shown = [lines[j] for j in span]
        if kind == "markdown":
            for j in span:
                if not re.match(r"#( |$)", lines[j]):
                    raise SourceError(f"{path}:{j + 1}: a markdown cell's line begins with `# `, got `{lines[j]}`")
            shown = [line[2:] for line in shown]
        cells.append(_cell(path, kind, tag, "\n".join(line.rstrip() for line in shown), span[0] + 1))
    return cells


def _cell(path: Path, kind: str, tag: str, text: str, line: int) -> Cell:
    if tag != "wrong":
        return Cell(kind, tag, text, line)
    named = WRONG.match(text)
    if named is None:
        raise SourceError(f"{path}:{line}: a wrong answer begins with `# check: NAME` and `# says: TEXT`")
    return Cell(kind, tag, text, line, named["check"].strip(), named["says"].strip())


def _title(source: Source) -> None:
    first = source.cells[0] if source.cells else Cell("code", "", "", 1)
    if first.kind != "markdown" or not first.text.startswith(f"# {source.number} · {source.title}"):
        raise source.fault(first.line, f"the first cell is markdown and begins `# {source.number} · {source.title}`")
    for word in ("**Goal.**", "**You need.**", "**Time.**"):
        if word not in first.text:
            raise source.fault(first.line, f"the first cell says {word}")
    for number in source.needs:
        if number >= source.number:
            raise source.fault(1, f"needs must be earlier lessons, got {number}")


def _start(source: Source) -> None:
    want = START.format(number=source.number, checks=source.checks)
    code = [cell for cell in source.cells if cell.kind == "code"]
    if not code or code[0].tag != "start" or len(source.tagged("start")) != 1:
        raise source.fault(code[0].line if code else 1, 'the first code cell, and no other, has tags=["start"]')
    for i, (got, right) in enumerate(zip(code[0].text.split("\n"), want.split("\n"), strict=False)):
        if got != right:
            raise source.fault(code[0].line + i, f"the start cell must read `{right}`, got `{got}`")
    if code[0].text != want:
        raise source.fault(code[0].line, "the start cell must be the form's, line by line")


def _checks(source: Source) -> None:
    names: dict[str, int] = {}
    for cell in source.cells:
        if cell.kind != "code" or cell.tag in ("start", "wrong"):
            continue
        check = cell.tag == "check"
        if (check or BEGIN in cell.text) and _draws_from_elsewhere(_parse(source, cell), check):
            raise source.fault(
                cell.line,
                "a check draws from a generator of its own, made in its cell, so that no skipped cell decides",
            )
        calls = _calls(_parse(source, cell), "check")
        if cell.tag != "check" and calls:
            raise source.fault(cell.line + calls[0].lineno - 1, 'lesson.check belongs in a cell with tags=["check"]')
        if cell.tag != "check":
            continue
        if len(calls) != 1:
            raise source.fault(cell.line, f"a check cell holds one lesson.check(...), got {len(calls)}")
        name = check_name(calls[0])
        line = cell.line + calls[0].lineno - 1
        if not _calls(_parse(source, cell).body[-1], "check"):
            raise source.fault(
                line, "lesson.check ends its cell: what comes after it would fail before the answer is right"
            )
        if not name:
            raise source.fault(line, "lesson.check's first argument is the check's name, a string")
        if name in names:
            raise source.fault(line, f'the check "{name}" is in line {names[name]} already; give it another name')
        names[name] = line
    if len(names) != source.checks:
        raise source.fault(7, f"the header declares {source.checks} checks, the lesson has {len(names)}")


def _draws_from_elsewhere(tree: ast.Module, check: bool) -> bool:
    """Whether a check's cell, or an exercise's when it runs, uses the lesson's ``rng``, whose state others change."""
    run = [node for node in tree.body if not isinstance(node, Functions | ast.ClassDef)]  # at once, when the cell runs
    tree = tree if check else ast.Module(run, [])
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "rng"]
    own = any(isinstance(node.ctx, ast.Store) for node in names)
    own |= any(isinstance(node, ast.arg) and node.arg == "rng" for node in ast.walk(tree))
    return bool(names) and not own


def _wrong(source: Source) -> None:
    names = [check_name(_calls(_parse(source, cell), "check")[0]) for cell in source.tagged("check")]
    for cell in source.tagged("wrong"):
        _parse(source, cell)
        if cell.check not in names:
            raise source.fault(cell.line, f'no check is called "{cell.check}"; there are {", ".join(names)}')


def _code(source: Source) -> None:
    """Every code cell parses, imports what everybody has, and keeps its solutions inside functions."""
    for cell in source.cells:
        if cell.kind != "code":
            continue
        tree = _parse(source, cell)
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                if module.partition(".")[0] not in IMPORTS:
                    raise source.fault(
                        cell.line + getattr(node, "lineno", 1) - 1,
                        f"a lesson imports numpy, matplotlib, minidl and the standard library, got {module}",
                    )
        for block in blocks(source, cell):
            if cell.tag:
                raise source.fault(cell.line + block.begin, f"no solution belongs in a {cell.tag} cell")


def _kept(source: Source) -> None:
    """No cell gives another value to a name that an exercise or a check above takes: somebody may come back to it."""
    cells = [cell for cell in source.cells if cell.kind == "code" and cell.tag != "wrong"]
    names = [names_of(cell.text) for cell in cells]
    for i, cell in enumerate(cells):
        if cell.tag != "check" and BEGIN not in cell.text:
            continue
        taken = names[i][1] & set().union(*(bound for bound, _ in names[:i]))
        for later, (bound, _) in zip(cells[i + 1 :], names[i + 1 :], strict=True):
            if spoiled := sorted(taken & bound):
                raise source.fault(
                    later.line,
                    f"gives another value to {', '.join(spoiled)}, which the cell in line {cell.line} takes; "
                    "somebody may come back to that: call it otherwise",
                )


def _size(source: Source) -> None:
    shown = [cell for cell in source.cells if cell.tag not in ("start", "wrong")]
    if len(shown) not in CELLS:
        raise source.fault(1, f"a lesson has {CELLS[0]} to {CELLS[-1]} cells, got {len(shown)}")
    open_cells = [cell for cell in shown if cell.kind == "code" and cell.tag not in FOLDED]
    code = [line.strip() for cell in open_cells for line in cell.text.split("\n")]
    lines = sum(bool(line) and not line.startswith("#") for line in code)
    if lines > LINES:
        raise source.fault(1, f"a lesson has at most {LINES} lines of code that stand open, got {lines}")


def _done(source: Source) -> None:
    last = [cell for cell in source.cells if cell.kind == "code" and cell.tag != "wrong"][-1]
    if not _calls(_parse(source, last), "done"):
        raise source.fault(last.line, "the last code cell calls lesson.done()")


@dataclass(frozen=True)
class Block:
    """A solution: its markers' lines in the cell, counted from 0, their indentation, and whose body it is in."""

    begin: int
    end: int
    indent: str
    function: str


def blocks(source: Source, cell: Cell) -> list[Block]:
    """Return the solutions of a cell."""
    lines = cell.text.split("\n")
    marks = [(i, line.strip()) for i, line in enumerate(lines) if line.strip() in (BEGIN, END)]
    for i, line in enumerate(lines):
        if "SOLUTION" in line and line.strip() not in (BEGIN, END):
            raise source.fault(cell.line + i, f"a solution's marker is `{BEGIN}` or `{END}`, alone in its line")
    if [mark for _, mark in marks] != [BEGIN, END] * (len(marks) // 2):
        raise source.fault(cell.line + marks[0][0], f"`{BEGIN}` and `{END}` must follow each other in pairs")
    if not marks:
        return []
    functions = _functions(_parse(source, cell))
    found = []
    for (begin, _), (end, _) in zip(marks[::2], marks[1::2], strict=True):
        indent = lines[begin][: len(lines[begin]) - len(BEGIN)]
        owners = [name for name, node in functions if _holds(node, begin + 1, end + 1, len(indent))]
        if not owners:
            raise source.fault(
                cell.line + begin, "a solution must be code in the body of a function, indented as the body is"
            )
        found.append(Block(begin, end, indent, owners[-1]))
    return found


def _holds(function: Functions, begin: int, end: int, indent: int) -> bool:
    """Whether the lines between two markers are whole statements of this function."""
    inside = [node for node in ast.walk(function) if isinstance(node, ast.stmt) and begin < node.lineno < end]
    whole = all((node.end_lineno or 0) < end for node in inside)
    return bool(inside) and whole and min(node.col_offset for node in inside) == indent and function not in inside


def _functions(tree: ast.AST, prefix: str = "") -> list[tuple[str, Functions]]:
    found: list[tuple[str, Functions]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Functions | ast.ClassDef):
            name = prefix + node.name
            found += [(name, node)] if isinstance(node, Functions) else []
            found += _functions(node, f"{name}.")
        else:
            found += _functions(node, prefix)
    return found


def _parse(source: Source, cell: Cell) -> ast.Module:
    try:
        compile(cell.text, str(source.path), "exec")
        return ast.parse(cell.text)
    except SyntaxError as error:
        raise source.fault(cell.line + (error.lineno or 1) - 1, f"not Python: {error.msg}") from None


def _calls(tree: ast.AST, method: str) -> list[ast.Call]:
    """Return the calls of ``lesson.<method>(...)``."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "lesson"
    ]


def check_name(call: ast.Call) -> str:
    """Return the first argument of lesson.check, if it is a string, else ""."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def name_of(cell: Cell) -> str:
    """Return the name of a check cell's check."""
    return check_name(_calls(ast.parse(cell.text), "check")[0])


def diagnoses(check: Cell) -> list[str]:
    """Return the diagnoses that a check's author wrote."""
    tree = ast.parse(check.text)
    return [
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "wrong" and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    ]
