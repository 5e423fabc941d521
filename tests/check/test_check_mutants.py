"""The checks checked: wrong layers die by two cases and are named, right ones live."""

import re
from pathlib import Path

import pytest

from minidl.check import generate
from minidl.check.mutants import kill, main, name
from minidl.check.suite import open_suite
from minidl.check.variants import variants_of

SUITE = open_suite()
VARIANTS = [variant for layer in SUITE.layers for variant in variants_of(layer)]
WRONG = [variant for variant in VARIANTS if not variant.correct]
PAGE = Path(__file__).parents[2] / "docs" / "check-mutants.md"


@pytest.mark.parametrize("layer", SUITE.layers)
def test_every_known_wrong_variant_is_killed_by_two_cases(layer):
    verdicts = [kill(variant, SUITE, enough=2) for variant in WRONG if variant.layer == layer]
    assert {v.variant.name: v.killed for v in verdicts if v.killed < 2} == {}


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.correct], ids=lambda v: f"{v.layer} {v.name}")
def test_correct_variants_stay_under_half_a_tolerance(variant):
    verdict = kill(variant, SUITE)
    assert verdict.killed == 0
    assert verdict.worst < 0.5


@pytest.mark.parametrize("variant", WRONG[3::23], ids=lambda v: f"{v.layer} {v.name}")
def test_the_diagnosis_names_the_variant(variant):
    assert variant.name in name(variant).named


def test_the_page_of_mutants_is_up_to_date_and_nine_of_ten_are_named():
    text = PAGE.read_text("utf-8")
    for variant in VARIANTS:
        assert f"| {variant.name} |" in text, f"run python -m minidl.check.mutants {PAGE}"
    wrong, killed, named = map(int, re.findall(r"(\d+) known-wrong variants: (\d+) killed .*?, (\d+) named", text)[0])
    assert wrong == killed == len(WRONG) >= 40
    assert named >= 0.9 * wrong


def test_one_layer_is_measured_by_itself_and_written(tmp_path, monkeypatch, capsys):
    few = [v for v in VARIANTS if v.layer == "linear"]
    monkeypatch.setattr(
        "minidl.check.mutants.variants_of", lambda layer: [*few[:2], *[v for v in few if v.correct][:1]]
    )
    assert main([str(tmp_path / "page.md"), "--layer", "linear"]) == 0
    assert "2 known-wrong variants: 2 killed by two cases or more" in capsys.readouterr().out
    assert (tmp_path / "page.md").read_text("utf-8").count("\n## ") == 1


@pytest.mark.parametrize("command", [main, generate.main])
def test_help_measures_nothing_and_writes_nothing(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command(["--help"])
    assert stopped.value.code == 0
    assert "usage: python -m minidl.check." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
