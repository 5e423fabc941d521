"""A simulated learner: answers that no lesson lists, and what they are told.

Of each exercise five wrong answers of `learner` are played and one of `anew`, the first of each file. Those in `anew`
are functions written from scratch with a mistake in each, before anybody knew what they would be told; that set stays
as it was written. `python -m lessons.machinery.learner tests/lessons/anew` plays all and prints each with its sentence.
`afresh` is a third set, written later in the same way and measured once; `unseen` a fourth, from the exercises' text;
and docs/teachers.md has what came of them. They are not played here, or they would be learnt; their form is looked at.
What a search for a change may take is counted in calls of functions, so that every machine finds the same.
"""

import importlib
import sys
import warnings
from pathlib import Path

import pytest

from lessons.machinery.learner import MISLEADS, RIGHT, answers, helpful, play
from lessons.machinery.source import name_of, read

HERE, ANEW = (Path(__file__).parent / name for name in ("learner", "anew"))
SOURCES = {path.name[:2]: path for path in sorted((HERE.parents[2] / "lessons" / "src").glob("*.py"))}
NUMBERS = sorted(SOURCES)
LEAST = 5  # wrong answers of an exercise that there are, and that are played here
PLAYED = {"learner": LEAST, "anew": 1}
# fmt: off
HELPED = {  # of each lesson how many must be helped, and of how many that no check lists
    "learner": {
        "01": (20, 24), "02": (26, 28), "03": (21, 24), "04": (28, 34), "05": (28, 29), "06": (18, 23),
        "07": (29, 30), "08": (28, 34), "09": (27, 29), "10": (24, 29), "11": (14, 18), "12": (16, 21),
        "13": (13, 14), "14": (13, 15), "15": (15, 18), "16": (18, 23), "17": (18, 22),
    },
    "anew": {
        "01": (3, 4), "02": (5, 6), "03": (3, 3), "04": (3, 4), "05": (3, 4), "06": (3, 3),
        "07": (4, 5), "08": (6, 7), "09": (4, 5), "10": (3, 4), "11": (3, 3), "12": (4, 5),
        "13": (2, 2), "14": (0, 0), "15": (1, 1), "16": (2, 3), "17": (1, 1),
    },
}
# fmt: on
SHARE, HARM = 82.0, 2.0  # per cent that must be helped, and that may be misled, of all lessons together
EACH = 72.0  # per cent that must be helped in each lesson
WORK = 450_000  # what a search for a change may take, in its own unit


@pytest.mark.parametrize("number", NUMBERS)
def test_every_exercise_has_five_wrong_answers_and_every_lesson_three_right_ones(number):
    given = answers(HERE / f"{number}.txt")
    wrong = [answer.check for answer in given if answer.mark != RIGHT]
    few = [name for name in map(name_of, read(SOURCES[number]).tagged("check")) if wrong.count(name) < LEAST]
    assert few == []
    assert sum(answer.mark == RIGHT for answer in given) >= 3


@pytest.mark.parametrize("number", NUMBERS)
def test_every_exercise_has_three_answers_that_were_written_anew(number):
    given = answers(ANEW / f"{number}.txt")
    checks = [answer.check for answer in given]
    assert [name for name in map(name_of, read(SOURCES[number]).tagged("check")) if checks.count(name) != 3] == []


@pytest.mark.parametrize(("folder", "least"), [("afresh", 60), ("unseen", 90)])
def test_a_set_that_was_measured_once_has_answers_to_checks_of_every_lesson(folder, least):
    given = {number: answers(HERE.parent / folder / f"{number}.txt") for number in NUMBERS}
    checks = {number: {*map(name_of, read(SOURCES[number]).tagged("check"))} for number in NUMBERS}
    assert [one.where for number in NUMBERS for one in given[number] if one.check not in checks[number]] == []
    assert min(len(some) for some in given.values()) >= 3
    assert sum(len(some) for some in given.values()) >= least


def shared(name, number):
    """Return the right answers of a set to a lesson, and the first wrong ones to each exercise."""
    chosen, least = {}, PLAYED[name]
    for answer in answers(HERE.parent / name / f"{number}.txt"):
        some = chosen.setdefault((answer.check, answer.mark == RIGHT), [])
        if answer.mark == RIGHT or len(some) < least:
            some.append(answer)
    return [answer for some in chosen.values() for answer in some]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", HELPED)
def test_the_wrong_answers_of_a_lesson_get_a_sentence_that_names_what_is_wrong(
    name, number, plain_pyplot, capsys, monkeypatch
):
    repair = importlib.import_module("minidl.lesson.repair")
    monkeypatch.setattr(repair, "SECONDS", 1000.0)  # calls bound a search here, not the machine's speed
    monkeypatch.setattr(repair, "WORK", WORK)
    good, total = 0, 0
    for played in play(read(SOURCES[number]), shared(name, number)):
        told = f"{played.answer.where}: {played.answer.text}\n{played.said}"
        assert not played.broken, told
        assert bool(played.said) == (played.answer.mark != RIGHT), told
        if played.said and not played.listed:
            total += 1
            good += played.helpful and played.answer.mark != MISLEADS
            assert played.helpful or played.answer.mark != MISLEADS, f"misleads no more: {told}"
    least, of = HELPED[name][number]
    with capsys.disabled():
        print(f"\nlesson {number}, {name}: {good} of {total} wrong answers that it does not list are helped", end="")
    assert total == of, f"write the new number of answers into HELPED: {total}"
    assert good >= least


@pytest.mark.parametrize(("name", "each"), [("learner", EACH), ("anew", 0.0)])
def test_what_is_asked_of_the_lessons_together_is_more_than_four_of_five(name, each):
    assert sorted(HELPED[name]) == NUMBERS
    least, of = map(sum, zip(*HELPED[name].values(), strict=True))
    misled = sum(answer.mark == MISLEADS for number in NUMBERS for answer in shared(name, number))
    assert 100 * least >= SHARE * of
    assert [number for number, (some, total) in HELPED[name].items() if 100 * some < each * total] == []
    assert 100 * misled < HARM * of


@pytest.fixture
def plain_pyplot(monkeypatch):
    """No window, and the lessons' modules beside this one's."""
    plt = pytest.importorskip("matplotlib.pyplot", reason="pip install -e '.[train]'")
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
