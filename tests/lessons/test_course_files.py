"""What is committed of the course: the notebooks are their build, and the table of contents tells the truth."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lessons import build as command
from lessons.machinery.source import read
from minidl import check
from minidl.check.variants import known_wrong

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "lessons" / "src").glob("*.py"))
README = (ROOT / "lessons" / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| (\d\d) \| \[(.+?)\]\((\S+?)\) \| (.+?) \| (\d+) min \| (.+?) \|")


def test_the_committed_notebooks_are_their_build(capsys):
    status = command.main(["--check"])
    assert status == 0, capsys.readouterr().err


def test_there_are_seventeen_lessons():
    assert [path.name[:2] for path in SOURCES] == [f"{i:02}" for i in range(1, 18)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_has_wrong_answers_that_are_refused(path):
    source = read(path)
    assert len(source.tagged("wrong")) >= (3 if source.number in ("05", "09") else 2)


def test_the_table_of_contents_says_what_the_lessons_say():
    rows = [match.groups() for match in ROW.finditer(README)]
    told = [(number, title, link, int(minutes), needs) for number, title, link, _, minutes, needs in rows]
    assert told == [
        (source.number, source.title, f"{source.name}.ipynb", source.minutes, ", ".join(source.needs) or "–")
        for source in map(read, SOURCES)
    ]
    hours = sum(row[3] for row in told) / 60
    assert f"about {round(hours)} hours" in README


def test_a_shorter_way_has_all_that_its_lessons_need_and_takes_the_time_that_it_says():
    lessons = {source.number: source for source in map(read, SOURCES)}
    ways = re.findall(r"^- \*\*[^*]+\*\*, (\d+) h (\d+) min: ((?:\d\d(?:, )?)+)", README, re.M)
    assert len(ways) == 3
    for hours, minutes, numbers in ways:
        way = numbers.split(", ")
        assert way == sorted(way)
        assert {need for number in way for need in lessons[number].needs} <= set(way)
        assert sum(lessons[number].minutes for number in way) == 60 * int(hours) + int(minutes)


LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "lessons" / "README.md"], ids=lambda path: path.stem)
def test_every_link_of_a_lesson_leads_to_a_file_below_the_folder_that_the_readmes_command_opens(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if not link.startswith("http") and "/" in link + "/"]
    for link in links:
        if path.suffix == ".py" and not link.startswith("../"):
            continue  # a call in a code cell
        target = (ROOT / "lessons" / link).resolve()
        assert target.exists(), link
        assert ROOT in target.parents, link
    assert "--ServerApp.root_dir=. " in README
    assert "lessons/README.md" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_table_of_a_lesson_fits_on_a_laptops_screen(path):
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    rows = [
        (number, re.sub(r"[`*$]|\\[a-z]+|\]\([^)]*\)", "", line)) for number, line in lines if line.startswith("# |")
    ]
    assert [number for number, shown in rows if len(shown) > 115] == []


def test_lesson_13_counts_the_bugs_that_the_report_names():
    text = next(path for path in SOURCES if path.name.startswith("13")).read_text(encoding="utf-8")
    bugs = ast.literal_eval(re.search(r"^BUGS = (\(.*?^\))", text, re.M | re.S)[1])
    chosen = [variant for variant in known_wrong("batch_norm") if variant.name in bugs]
    planted = replace(chosen[0], patches=sum((variant.patches for variant in chosen), ()))
    report = check.run(planted, "batch_norm", "float32")
    assert (len(chosen), len(report.diagnosis)) == (3, 3)
    assert "Three lines, three bugs." in text
