"""Play a lesson's cells in this process, to prove what its checks refuse: ``python -m lessons.machinery.play``.

``stub SOURCE`` plays the learner's notebook from top to bottom, ``wrong SOURCE`` plays each wrong answer right before
its check.  What went otherwise than it must is printed as JSON, a list of lines.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import linecache
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lessons.machinery.notebook import shown, solved
from lessons.machinery.source import Cell, Source, SourceError, name_of, read


class Player:
    """A namespace in which cells run one after the other, as in a kernel."""

    def __init__(self) -> None:
        self.module = ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self.names: dict[str, Any] = self.module.__dict__
        self.played = 0

    def play(self, text: str) -> Exception | None:
        """Run a cell; return the error it raised."""
        self.played += 1
        name = f"<cell {self.played}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(text, name, "exec"), self.names)
        except Exception as error:
            return error
        return None

    @contextlib.contextmanager
    def trial(self) -> Any:
        """Run cells in a ``with`` block, then forget what they bound and drew, and what the lesson made of them."""
        names, lesson = dict(self.names), self.names["lesson"]
        kept = {key: copy.copy(value) for key, value in vars(lesson).items()}
        random = [
            (value, value.bit_generator.state) for value in names.values() if isinstance(value, np.random.Generator)
        ]
        try:
            yield
        finally:
            self.names.clear()
            self.names.update(names)
            vars(lesson).update(kept)
            for generator, state in random:
                generator.bit_generator.state = state


def said(error: Exception | None) -> str:
    """Return an error in a line."""
    return (
        "no error" if error is None else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    )


def play_stub(source: Source) -> list[str]:
    """Play the learner's notebook: each check must say that it is the learner's turn, and nothing else may fail."""
    from minidl.lesson import CheckFailed

    player, faults, failed = Player(), [], 0
    for kind, tag, text in shown(source, with_solutions=False):
        if kind != "code":
            continue
        error = player.play(text)
        first = text.splitlines()[0]
        if tag == "check":
            failed += isinstance(error, CheckFailed)
            if not isinstance(error, CheckFailed) or "your turn" not in str(error):
                faults.append(f"the check cell `{first}` must fail with `your turn`, got {said(error)}")
        elif error is not None:
            faults.append(f"the cell `{first}` must run in the stub, got {said(error)}")
    if failed != source.checks:
        faults.append(f"{source.checks} checks must fail, got {failed}")
    return faults


def play_wrong(source: Source) -> list[str]:
    """Play the solved lesson up to its last wrong answer; each must be refused by its check, with its diagnosis."""
    player, faults = Player(), []
    open_answers = {id(cell): cell for cell in source.tagged("wrong")}
    for cell in source.cells:
        if not open_answers:
            break
        if cell.kind != "code" or cell.tag == "wrong":
            continue
        if cell.tag == "check":
            for answer in [one for one in open_answers.values() if one.check == name_of(cell)]:
                del open_answers[id(answer)]
                faults += refused(player, answer, cell, source)
            if not open_answers:
                break
        error = player.play(solved(cell))
        if error is not None:
            faults.append(f"{source.path}:{cell.line}: the solved cell must run, got {said(error)}")
            break
    return faults


def refused(player: Player, answer: Cell, check: Cell, source: Source) -> list[str]:
    """Play a wrong answer and its check; return what is wrong with the check."""
    from minidl.lesson import CheckFailed

    where = f"{source.path}:{answer.line}: "
    with player.trial(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = player.play(answer.text)
        if error is not None:
            return [f"{where}the wrong answer must run, got {said(error)}"]
        error = player.play(solved(check))
    if not isinstance(error, CheckFailed):
        return [f'{where}the check "{answer.check}" must refuse this answer, got {said(error)}']
    if answer.says not in str(error):
        told = str(error).replace("\n", " | ")
        return [f'{where}the check "{answer.check}" must say "{answer.says}", got {told}']
    return []


def main(mode: str, path: str) -> int:
    """Play a source and print what is wrong with it."""
    os.environ["MPLBACKEND"] = "agg"
    import matplotlib.pyplot as plt

    # Nothing is drawn here: the executed notebooks draw.
    plt.show = lambda *args, **options: plt.close("all")
    warnings.simplefilter("error")
    try:
        print(json.dumps({"stub": play_stub, "wrong": play_wrong}[mode](read(Path(path)))))
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
