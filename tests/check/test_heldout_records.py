"""What is recorded of the held-out sets adds up: sizes, frozen sums, judgements, and the page's tables."""

import hashlib
import json
import re
from collections import Counter

import pytest
from heldout.collected import BUGS, CORRECT
from heldout.fifth import collected as fifth
from heldout.fourth import collected as fourth
from heldout.measure import accepted_of, as_frozen, detection, digest, judge, measured, table
from heldout.second import collected as second
from heldout.second.registry import ANSWERS
from heldout.seventh import collected as seventh
from heldout.sixth import collected as sixth
from heldout.third import collected as third
from heldout_runs import FIRST_RUN, HERE


@pytest.mark.parametrize(
    "bugs",
    [BUGS, second.BUGS, third.BUGS, fourth.BUGS, fifth.BUGS, sixth.BUGS, seventh.BUGS],
    ids=["first", "second", "third", "fourth", "fifth", "sixth", "seventh"],
)
def test_the_set_is_of_the_size_and_spread_that_it_claims(bugs):
    later = any(bugs is one.BUGS for one in (third, fourth, fifth, sixth, seventh))
    if later and third.torch is None:
        pytest.skip("half of the set needs PyTorch, which is not installed")
    styles = Counter(bug.style for bug in bugs)
    assert len(bugs) >= 60
    assert min(styles.values()) >= 0.4 * len(bugs)
    assert len({bug.id for bug in bugs}) == len(bugs)
    assert len({bug.layer for bug in bugs}) == (13 if later else 11)


def test_every_bug_has_a_judgement():
    accepted = json.loads((HERE / "heldout" / "judgement.json").read_text("utf-8"))
    assert list(accepted) == sorted(bug.id for bug in BUGS)
    assert sorted(ANSWERS) == sorted(bug.id for bug in second.BUGS)
    for patterns in accepted.values():
        assert patterns
        for pattern in patterns:
            re.compile(pattern)


def test_the_second_set_is_as_it_was_frozen():
    page = HERE.parents[1] / "docs" / "check-measured.md"
    assert digest() in page.read_text("utf-8")


def test_the_third_set_is_as_it_was_frozen():
    folder = HERE / "heldout" / "third"
    lines = (folder / "FROZEN").read_text("utf-8").splitlines()
    frozen = dict(reversed(line.split("  ", 1)) for line in lines[1:-1])
    held = {path.name for path in folder.glob("*.py")} - {"__init__.py", "collected.py"}
    assert held == {name for name in frozen if re.match("[nt]|correct|registry", name)}
    assert {name: as_frozen(folder / name) for name in held} == {name: frozen[name] for name in held}
    whole = hashlib.sha256("".join(f"{line}\n" for line in lines[1:-1]).encode()).hexdigest()
    assert whole in lines[-1]
    assert whole in (HERE.parents[1] / "docs" / "check-measured.md").read_text("utf-8")


@pytest.mark.parametrize("which", ["fourth", "fifth", "sixth", "seventh"])
def test_a_later_set_is_as_it_was_frozen(which):
    folder = HERE / "heldout" / which
    lines = (folder / "FROZEN").read_text("utf-8").splitlines()
    frozen = dict(reversed(line.split("  ", 1)) for line in lines[1:])
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.py")} == frozen
    whole = hashlib.sha256("".join(f"{line}\n" for line in lines[1:]).encode()).hexdigest()
    assert whole in (HERE.parents[1] / "docs" / "check-measured.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("which", "bugs", "counts", "row"),
    [
        (
            "third",
            third.BUGS,
            {"right": 40, "wrong": 5, "unknown": 45, "missed": 1},
            "| all | 91 | **40 (44.0 %)** | **5 (5.5 %)** | 45 (49.5 %) | 1 (1.1 %) |",
        ),
        (
            "fourth",
            fourth.BUGS,
            {"right": 88, "wrong": 4, "unknown": 13, "missed": 1},
            "| all | 106 | **88 (83.0 %)** | **4 (3.8 %)** | 13 (12.3 %) | 1 (0.9 %) |",
        ),
        (
            "fifth",
            fifth.BUGS,
            {"right": 119, "wrong": 2, "half": 2, "unknown": 28},
            "| all | 151 | **119 (78.8 %)** | **2 (1.3 %)** | 2 (1.3 %) | 28 (18.5 %) | 0 |",
        ),
        (
            "sixth",
            sixth.BUGS,
            {"right": 103, "wrong": 3, "half": 1, "unknown": 9},
            "| all | 116 | **103 (88.8 %)** | **3 (2.6 %)** | 1 (0.9 %) | 9 (7.8 %) | 0 |",
        ),
        (
            "seventh",
            seventh.BUGS,
            {"right": 68, "unknown": 10},
            "| all | 78 | **68 (87.2 %)** | **0** | 10 (12.8 %) | 0 |",
        ),
    ],
    ids=["third", "fourth", "fifth", "sixth", "seventh"],
)
def test_the_judgement_of_a_later_set_adds_up(which, bugs, counts, row):
    answers = json.loads((HERE / "heldout" / which / "answers.json").read_text("utf-8"))
    runs = FIRST_RUN[which]
    assert sorted(answers) == sorted(runs)
    assert {bug.id for bug in bugs} <= set(runs)
    for name, run in runs.items():
        judged = judge(answers[name], run["verdict"] != "missed", run["named"])
        assert judged == run["verdict"] or (run["verdict"] in ("half", "wrong") and judged in ("wrong", "mixed"))
    assert Counter(run["verdict"] for run in runs.values()) == counts
    assert row in (HERE.parents[1] / "docs" / "check-measured.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("which", "same", "others", "rows"),
    [
        (
            "fourth",
            {"right": 57, "wrong": 1, "unknown": 1},
            {"right": 31, "wrong": 3, "unknown": 12, "missed": 1},
            ("| 59 | 57 (96.6 %) | 1 | 1 | 0 |", "| 47 | **31 (66.0 %)** | **3 (6.4 %)** | 12 (25.5 %) | 1 |"),
        ),
        (
            "fifth",
            {"right": 52, "wrong": 1, "unknown": 3},
            {"right": 67, "wrong": 1, "half": 2, "unknown": 25},
            ("| 56 | 52 (92.9 %) | 1 | 0 | 3 |", "| 95 | **67 (70.5 %)** | **1 (1.1 %)** | 2 | 25 (26.3 %) |"),
        ),
        (
            "sixth",
            {"right": 75, "wrong": 1, "unknown": 2},
            {"right": 28, "wrong": 2, "half": 1, "unknown": 7},
            ("| 78 | 75 (96.2 %) | 1 | 0 | 2 |", "| 38 | **28 (73.7 %)** | **2 (5.3 %)** | 1 | 7 (18.4 %) |"),
        ),
        (
            "seventh",
            {"right": 57, "unknown": 3},
            {"right": 11, "unknown": 7},
            ("| 60 | 57 (95.0 %) | 0 | 3 |", "| 18 | **11 (61.1 %)** | **0** | 7 (38.9 %) |"),
        ),
    ],
    ids=["fourth", "fifth", "sixth", "seventh"],
)
def test_bugs_of_a_later_set_that_an_earlier_set_had_are_of_the_same_layer(which, same, others, rows):
    alike = json.loads((HERE / "heldout" / which / "alike.json").read_text("utf-8"))
    sets = (BUGS, second.BUGS, third.BUGS, fourth.BUGS, fifth.BUGS, sixth.BUGS, seventh.BUGS)
    layers = {bug.id: bug.layer for bugs in sets for bug in bugs}
    runs = FIRST_RUN[which]
    assert set(alike) <= set(runs)
    if fourth.torch is not None:
        assert [layers[new] for new in alike] == [layers[old] for old in alike.values()]
    assert Counter(runs[name]["verdict"] for name in alike) == same
    assert Counter(run["verdict"] for name, run in runs.items() if name not in alike) == others
    page = (HERE.parents[1] / "docs" / "check-measured.md").read_text("utf-8")
    for row in rows:
        assert row in page


@pytest.mark.parametrize("which", ["second", "third", "fourth", "fifth", "sixth", "seventh"])
def test_names_that_came_later_are_of_bugs_of_the_set(which):
    answers = json.loads((HERE / "heldout" / which / "answers.json").read_text("utf-8"))
    assert set(json.loads((HERE / "heldout" / f"{which}_later.json").read_text("utf-8"))) <= set(answers)
    assert set(accepted_of(which)) == set(answers)


def test_a_bug_without_answers_is_unjudged_and_its_row_says_what_would_be_right():
    bug = next(bug for bug in third.BUGS if bug.id == "n3-ln-swapped-gradients")
    row = measured(bug, None)
    assert row.verdict == "unjudged"
    assert "dweight and dbias swapped" in table([row])
    assert bug.right in table([row])


def test_detection_says_which_case_shows_a_bug_and_that_a_correct_layer_passes():
    text = detection([bug for bug in BUGS if bug.layer == "linear"], [i for i in CORRECT if i.layer == "linear"], "")
    shown, passing = (
        re.findall(pattern, text) for pattern in (r": \d+ cases, first linear-\S+: ", r": passes$|passes\n")
    )
    assert len(shown) == sum(bug.layer == "linear" for bug in BUGS)
    assert "NOT SHOWN" not in text
    assert passing
    assert "FAILS" not in text
