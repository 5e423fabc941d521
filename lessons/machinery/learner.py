"""Simulate a learner: ``python -m lessons.machinery.learner FOLDER [NN ...]`` plays answers that no lesson lists.

A file NN.txt of the folder holds answers, each in a line, under ``# name of the check``. ``old => new`` replaces text
in the solution, ``&&`` joins several such replacements, ``function: a; b`` writes a function's body anew. A line that
begins with ``=`` is right in another style; one that begins with ``!`` gets a sentence that was read and misleads.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lessons.machinery.names import names_of
from lessons.machinery.notebook import solved
from lessons.machinery.play import Player
from lessons.machinery.source import Cell, Source, blocks, diagnoses, name_of, read

RIGHT, MISLEADS = "=", "!"
NUMBERS = re.compile(r"WRONG |      ")  # the lines of a comparison, and what Python says


class AnswerError(Exception):
    """An answer that cannot be played: its text does not fit the lesson."""


@dataclass(frozen=True)
class Answer:
    """One line of a file of answers."""

    check: str
    text: str
    mark: str
    where: str


@dataclass(frozen=True)
class Played:
    """What a check said to an answer: "" where it passed."""

    answer: Answer
    said: str
    listed: bool
    helpful: bool
    broken: bool = False


def answers(path: Path) -> list[Answer]:
    """Read a file of answers."""
    found, check = [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("# "):
            check = line[2:].strip()
        elif line.strip():
            mark = line[0] if line[:2] in (f"{RIGHT} ", f"{MISLEADS} ") else ""
            found.append(Answer(check, line[2 * bool(mark) :], mark, f"{path.name}:{number}"))
    return found


def helpful(said: str) -> bool:
    """Whether a refusal holds a sentence that names what is wrong, apart from numbers and from a general advice."""
    from minidl.lesson.hints import GENERAL

    lines = [line for line in said.splitlines()[1:] if not NUMBERS.match(line)]
    if " in place: " in said.splitlines()[0]:
        lines.append(said.splitlines()[0])
    lines += [line for line in said.splitlines() if line.startswith("WRONG ") and PROBLEM.search(line)]
    return any(not line.startswith(GENERAL) for line in lines)


PROBLEM = re.compile(
    r": (is None|is missing|is a function|is not wanted|is complex|is \w+[;,] want|is (a )?\w+ of |is \w+ that holds )"
)


def play(source: Source, given: list[Answer]) -> Iterator[Played]:
    """Play answers, each right before its check."""
    player, waiting = Player(), {}
    for answer in given:
        waiting.setdefault(answer.check, []).append(answer)
    cells = [cell for cell in source.cells if cell.kind == "code" and cell.tag != "wrong"]
    wanted = _needed(cells)
    before: list[Cell] = []
    for cell in cells:
        if not waiting:
            return
        if cell.tag == "check":
            for answer in waiting.pop(name_of(cell), []):
                try:
                    yield _try(player, answer, cell, source, before)
                except AnswerError as error:
                    yield Played(answer, f"{error}", listed=False, helpful=False, broken=True)
        elif blocks(source, cell):
            before.append(cell)
        if id(cell) in wanted and (error := player.play(solved(cell))):
            raise AnswerError(f"{source.path}:{cell.line}: the solved cell must run, got {error!r}")
    for name, left in waiting.items():
        raise AnswerError(f'{left[0].where}: lesson {source.number} has no check "{name}"')


def _needed(cells: list[Cell]) -> set[int]:
    """Return the cells that checks and solutions need, so that no figure is drawn and nothing trained for nothing."""
    uses = {id(cell): names_of(cell.text) for cell in cells}
    always = [cell for cell in cells if cell.tag in ("start", "check") or "### BEGIN" in cell.text]
    wanted = {id(cell) for cell in always}
    grown = True
    while grown:
        free = set().union(*(uses[one][1] for one in wanted))
        more = {one for one, (bound, _) in uses.items() if one not in wanted and bound & free}
        wanted, grown = wanted | more, bool(more)
    return wanted


def _try(player: Player, answer: Answer, check: Cell, source: Source, before: list[Cell]) -> Played:
    text = written(answer, before, source)
    with player.trial(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if error := player.play(text):
            raise AnswerError(f"{answer.where}: the answer must run, got {error!r}")
        error = player.play(solved(check))
    from minidl.lesson import CheckFailed

    if error is not None and not isinstance(error, CheckFailed):
        raise AnswerError(f"{answer.where}: the check fell over: {error!r}")
    said = str(error or "")
    listed = any(words in said for words in diagnoses(check))
    return Played(answer, said, listed, bool(said) and helpful(said))


def written(answer: Answer, before: list[Cell], source: Source) -> str:
    """Return the text of a solved cell with an answer in it."""
    chosen, text = None, ""
    for part in answer.text.split(" && "):
        old, arrow, new = part.partition(" =>")
        old, new = old.replace("\\n", "\n"), new.removeprefix(" ").replace("\\n", "\n")
        for cell in [chosen] if chosen else reversed(before):
            changed = _replaced(text or cell.text, old, new) if arrow else _body(source, cell, part)
            if changed:
                chosen, text = cell, changed
                break
        else:
            raise AnswerError(f"{answer.where}: no solution holds {old!r}")
    return "\n".join(line for line in text.split("\n") if "### BEGIN" not in line and "### END" not in line)


def _replaced(text: str, old: str, new: str) -> str:
    """Replace text once, in a solution; return "" if no solution holds it."""
    pieces = re.split(r"( *### (?:BEGIN|END) SOLUTION)", text)
    for i in range(2, len(pieces), 4):
        if old in pieces[i]:
            pieces[i] = pieces[i].replace(old, new, 1)
            if not pieces[i].strip():
                pieces[i] = "\n    pass\n"
            return "".join(pieces)
    return ""


def _body(source: Source, cell: Cell, part: str) -> str:
    """Write a function's solution anew; return "" if the cell has no such function."""
    name, _, body = part.partition(": ")
    lines = cell.text.split("\n")
    for block in blocks(source, cell):
        if block.function == name:
            lines[block.begin + 1 : block.end] = [block.indent + line for line in body.split("\\n")]
            return "\n".join(lines)
    return ""


def main(folder: str, *only: str) -> int:
    """Play the answers of a folder; print what each was told and the share that got a helpful sentence."""
    os.environ["MPLBACKEND"] = "agg"
    sources = Path(__file__).resolve().parents[1] / "src"
    good = total = bad = 0
    for path in sorted(Path(folder).glob("[0-9][0-9].txt")):
        if only and path.stem not in only:
            continue
        for played in play(read(next(sources.glob(f"{path.stem}_*.py"))), answers(path)):
            answer = played.answer
            right = answer.mark == RIGHT
            counts = not right and played.said and not played.listed
            helps = played.helpful and answer.mark != MISLEADS
            kind = "right" if right else "listed" if played.listed else "helped" if helps else "alone"
            if played.broken:
                kind, counts, bad = "BROKEN", False, bad + 1
            elif right == bool(played.said):
                kind, bad = "REFUSED" if right else "ACCEPTED", bad + 1
            total, good = total + bool(counts), good + bool(counts and helps)
            print(f"{kind:8} {answer.where} [{answer.check}] {answer.text}")
            if played.said and kind != "listed":
                print("         " + played.said.replace("\n", "\n         "))
    share = 100 * good / max(total, 1)
    print(f"{good} of {total} wrong answers that no lesson lists get a helpful sentence: {share:.1f} %")
    return 1 if bad or good < 0.8 * total else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
