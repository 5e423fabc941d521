"""A simulated learner: answers that no lesson lists, and what they are told.

Of each exercise one wrong answer is played, enough to notice when hints get worse; `python -m
lessons.machinery.learner tests/lessons/learner` plays all and prints each with its sentence.
"""

import importlib
import sys
import warnings
from pathlib import Path

import pytest

from lessons.machinery.learner import MISLEADS, RIGHT, answers, helpful, play
from lessons.machinery.source import name_of, read

HERE = Path(__file__).parent / "learner"
SOURCES = {path.name[:2]: path for path in sorted((HERE.parents[2] / "lessons" / "src").glob("*.py"))}
NUMBERS = sorted(SOURCES)
LEAST, PLAYED = 5, 1  # wrong answers of an exercise that there are, and that are played here
SHARE = 80.0  # per cent that must be helped


@pytest.mark.parametrize("number", NUMBERS)
def test_every_exercise_has_five_wrong_answers_and_every_lesson_three_right_ones(number):
    given = answers(HERE / f"{number}.txt")
    wrong = [answer.check for answer in given if answer.mark != RIGHT]
    few = [name for name in map(name_of, read(SOURCES[number]).tagged("check")) if wrong.count(name) < LEAST]
    assert few == []
    assert sum(answer.mark == RIGHT for answer in given) >= 3


def shared(number):
    """Return the right answers of a lesson, and the first wrong ones of each exercise."""
    chosen = {}
    for answer in answers(HERE / f"{number}.txt"):
        some = chosen.setdefault((answer.check, answer.mark == RIGHT), [])
        if answer.mark == RIGHT or len(some) < PLAYED:
            some.append(answer)
    return [answer for some in chosen.values() for answer in some]


def test_four_of_five_wrong_answers_get_a_sentence_that_names_what_is_wrong(plain_pyplot, capsys, monkeypatch):
    repair = importlib.import_module("minidl.lesson.repair")
    monkeypatch.setattr(repair, "SECONDS", 30.0)  # runs of the check bound a search here, not the machine's speed
    monkeypatch.setattr(repair, "TRIALS", 400)
    good = total = 0
    for number in NUMBERS:
        for played in play(read(SOURCES[number]), shared(number)):
            told = f"{played.answer.where}: {played.answer.text}\n{played.said}"
            assert not played.broken, told
            assert bool(played.said) == (played.answer.mark != RIGHT), told
            if played.said and not played.listed:
                total += 1
                good += played.helpful and played.answer.mark != MISLEADS
    with capsys.disabled():
        print(f"\n{good} of {total} wrong answers that no lesson lists are helped: {100 * good / total:.1f} %")
    assert 100 * good >= SHARE * total


@pytest.fixture
def plain_pyplot(monkeypatch):
    """No window, and the lessons' modules beside this one's."""
    plt = pytest.importorskip("matplotlib.pyplot", reason="pip install -e '.[lessons]'")
    monkeypatch.setattr(plt, "show", lambda *args, **options: plt.close("all"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    with warnings.catch_warnings():
        yield


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        ("y: not yet\nWRONG y[0]: got 1, want 2, 3 × the tolerance 1\n      abs 1, rel 1, 4 ulp; 1 of 1", False),
        ("y: not yet\nWRONG y[0]: got 1\nMost of it is there (cosine 0.9): look for a term", False),
        ("y: an error in f, line 2 of its cell, `return x`\n      ValueError: no", False),
        ("y: not yet\nWRONG y: is None: does your function end without `return`?", True),
        ("y: not yet\nWRONG y[0]: got 1\nThe sign is turned.", True),
        ("y: your code changed x in place: `x -= a`", True),
    ],
)
def test_numbers_and_general_advice_are_no_help(said, helps):
    assert helpful(said) is helps
