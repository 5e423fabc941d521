"""What a lesson's notebook talks to: checks that cannot pass by accident, and sentences where something goes wrong.

In a notebook a check that does not pass says so and lets the cells below run; in a script it raises CheckFailed.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minidl.check.compare import compare
from minidl.check.selftest import selftest
from minidl.lesson.errors import explain
from minidl.lesson.given import GIVEN
from minidl.lesson.inputs import Inputs
from minidl.lesson.repair import codes, mentioned, repair
from minidl.lesson.tutor import in_place, tutor
from minidl.lesson.values import Tolerance, alternatives, blank, compare_all, in_part, judge, named, of, same
from minidl.lesson.watch import Watch

LESSONS = 17
WIDTH = 100  # columns that JupyterLab shows in one line at a laptop's width, its file browser open


class LessonError(Exception):
    """The lesson cannot go on, and it is not the learner's answer: minidl was changed, or the lesson has a fault."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows in place of a traceback."""
        return [str(self)]


class CheckFailed(AssertionError):  # noqa: N818 (the lessons' name for it)
    """The learner's answer is not right yet; the message stands alone."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows in place of a traceback."""
        return [str(self)]


class Lesson:
    """The checks of one lesson.

    Parameters
    ----------
    number : of the lesson, two digits
    checks : how many checks the lesson has

    Raises
    ------
    LessonError
        If this installation of minidl does not compute the shipped vectors, or does not know the lesson.

    Examples
    --------
    >>> lesson = Lesson("02", checks=2)
    >>> lesson.check("y", lambda: np.array([1.0, 2.0]), np.array([1.0, 2.0]), tol=1e-12)
    ok    y: worst 0 of the tolerance  (check 1 of 2)
    >>> lesson.done()
    lesson 02: 1 of 2 checks passed.
      ok       y
      not run  1 check
    """

    def __init__(self, number: str, checks: int) -> None:
        if not re.fullmatch(r"\d\d", str(number)) or not 1 <= int(number) <= LESSONS:
            raise LessonError(
                f"Lesson: number must be 01 to {LESSONS}, got {number!r}; if the notebook is newer than minidl, "
                "bring minidl up to date: in the clone's folder run `git pull` and `pip install -e .`"
            )
        if problem := selftest():
            raise LessonError(f"lesson {number} cannot start: {problem}")
        self.number, self.checks = number, checks
        self.passed: dict[str, int] = {}
        self.failed: dict[str, None] = {}  # in the order of their first failure, as they stand in the lesson
        self.replaced: list[str] = []
        self.trusted: set[Any] = set()  # the code of functions that passed a check
        self.given = GIVEN.get(number, frozenset())
        _help_with_names()

    def check(
        self,
        name: str,
        got: Callable[[], Any],
        want: Any,
        tol: Tolerance,
        wrong: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        """Compare what the learner's code gives with what is right.

        Parameters
        ----------
        name : what is checked
        got : called without arguments; gives an array, or a dict of arrays
        want : the right array or dict, or a callable that gives it
        tol : the largest error allowed, absolute; one number, or one per key
        wrong : {a diagnosis, a sentence: callable giving what that mistake gives, or an iterator over several such}

        Raises
        ------
        CheckFailed
            Outside a notebook: if got raises an error, gives something else than want, or changes an array that it
            was given. In a notebook the same text is printed, and the cells below run.
        LessonError
            If the check could not fail: zeros, or one of the wrong answers, would pass.

        Examples
        --------
        >>> x = np.array([1.0, 2.0, 6.0])
        >>> lesson = Lesson("05", checks=1)
        >>> lesson.check("var", lambda: x.var(ddof=1), x.var(), 1e-12, {"You divided by N − 1.": lambda: x.var(ddof=1)})
        Traceback (most recent call last):
        minidl.lesson.CheckFailed: var: not yet
        WRONG var[]: got 7, want 4.66666667, 2.33e+12 × the tolerance 1e-12
              abs 2.33, rel 0.5, 2.63e+15 ulp; 1 of 1 elements are out
        You divided by N − 1.
        """
        known = {*self.passed, *self.failed}
        if name not in known and len(known) == self.checks:
            raise LessonError(f"lesson {self.number} declares {self.checks} checks; {name!r} is one more")
        if not callable(got):
            raise LessonError(f"lesson {self.number}: the check {name!r} needs a callable, `lambda: ...`, as got")
        right = want() if callable(want) else want
        self._refuse_what_cannot_fail(name, right, tol)
        inputs = Inputs(got, mentioned(got))
        given: Any = None
        watch = Watch(codes(got) - self._blameless(got))
        try:
            with watch:
                given = got()
            raised = None
        except Exception as error:
            raised = explain(error, getattr(got, "__globals__", None))
        if changed := inputs.restore():
            return self._fail(name, f"{name}: {in_place(changed)}")
        if raised is None and watch.changed:
            return self._fail(name, f"{name}: {in_place([*watch.changed], back=False)}")
        if raised is not None:
            change = "" if "your turn" in raised else repair(got, judge(name, right, tol), self._blameless(got))
            return self._fail(name, "\n".join([f"{name}: {raised}", *filter(None, [change])]))
        results = compare_all(name, given, right, tol)
        bad = [result for result in results if not result.passed]
        if bad:
            lines = [line for result in bad for line in result.lines()]
            diagnosis = [said for said, mistake in (wrong or {}).items() if same(name, given, mistake, tol)]
            alone = {said: m for said, m in (wrong or {}).items() if not codes(m) & codes(got) - self._blameless(got)}
            diagnosis = diagnosis or [said for said, m in alone.items() if in_part(name, given, right, m, tol)][:1]
            lines += diagnosis or tutor(name, got, given, right, tol, bad, self._blameless(got), watch)
            return self._fail(name, "\n".join([f"{name}: not yet", *lines]))
        for said, mistake in (wrong or {}).items():
            if any(all(r.passed for r in compare_all(name, one, right, tol)) for one in alternatives(mistake())):
                raise LessonError(f"lesson {self.number}: the check {name!r} would accept the mistake {said!r}")
        self.failed.pop(name, None)
        self.trusted |= codes(got)
        count = self.passed.setdefault(name, len(self.passed) + 1)
        worst = max(result.worst for result in results)
        print(f"ok    {name}: worst {worst:.3g} of the tolerance  (check {count} of {self.checks})")

    def blank(self, *shape: int) -> Any:
        """Return an array full of NaN, for an answer to write into; a place that it leaves out is told as such."""
        return blank(*shape)

    def _blameless(self, got: Callable[[], Any]) -> set[Any]:
        """Return the code of functions that passed a check, and of those that the lesson gives."""
        return self.trusted | codes(got, self.given)

    def _fail(self, name: str, text: str) -> None:
        """Note that a check has not passed and say it: in a notebook without stopping the cells below."""
        self.passed.pop(name, None)
        self.failed[name] = None
        if _notebook() is None:
            raise CheckFailed(text) from None
        print("\n".join(map(wrapped, text.split("\n"))))

    def yours(self, function: Callable[..., Any], otherwise: Callable[..., Any], check: str) -> Callable[..., Any]:
        """Return the learner's function if its check passed in this session, else minidl's own, and say so.

        Examples
        --------
        >>> def double(x):
        ...     raise NotImplementedError("your turn: double")
        >>> Lesson("01", checks=1).yours(double, lambda x: 2 * x, check="double")(21)
        (minidl's own function stands in for double: the check "double" has not passed yet)
        42
        """
        if check in self.passed:
            return function
        name = getattr(function, "__name__", "yours")
        print(f'(minidl\'s own function stands in for {name}: the check "{check}" has not passed yet)')
        self.replaced.append(check)
        return otherwise

    def done(self) -> None:
        """Say how many of the lesson's checks passed, and which have not."""
        if len(self.passed) == self.checks:
            print(f"lesson {self.number}: all {self.checks} checks passed.")
            return
        print(f"lesson {self.number}: {len(self.passed)} of {self.checks} checks passed.")
        for name in self.passed:
            print(f"  ok       {name}")
        for name in self.failed:
            print(f"  not yet  {name}")
        if unseen := self.checks - len(self.passed) - len(self.failed):
            print(f"  not run  {unseen} check{'s' * (unseen > 1)}")

    def _refuse_what_cannot_fail(self, name: str, want: Any, tol: Tolerance) -> None:
        wanted = named(name, want)
        if not wanted or not all(np.size(value) for value in wanted.values()):
            raise LessonError(f"lesson {self.number}: the check {name!r} compares nothing")
        for key, value in wanted.items():
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise LessonError(f"lesson {self.number}: {key} must be real numbers, got {array.dtype}")
            if compare(key, np.zeros(array.shape), array, of(tol, key)).passed:
                raise LessonError(f"lesson {self.number}: the check {name!r} would accept zeros for {key}")


def wrapped(line: str) -> str:
    """Return a line broken between words, its indentation kept: JupyterLab breaks a wide one within a word.

    Examples
    --------
    >>> print(wrapped("    " + 60 * "ab "))  # doctest: +NORMALIZE_WHITESPACE
        ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab
        ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab
    """
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )


def _notebook() -> Any:
    """Return IPython's shell, or None outside a notebook."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _help_with_names() -> None:
    """In IPython, follow a NameError in any cell with a sentence about the order of the cells."""
    shell = _notebook()
    if shell is None:
        return
    known: list[Any] = shell.events.callbacks["post_run_cell"]
    for callback in [callback for callback in known if callback.__name__ == _say_run_above.__name__]:
        shell.events.unregister("post_run_cell", callback)
    shell.events.register("post_run_cell", _say_run_above)


def _say_run_above(result: Any) -> None:
    if isinstance(result.error_in_exec, NameError):
        print(f"{result.error_in_exec}. Run the cells above first, from the top, then this one again.")
