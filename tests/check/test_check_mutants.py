"""The checks checked: wrong layers die by two cases and are named, right ones live."""

import re
from pathlib import Path

import pytest

from minidl.check.mutants import kill, name
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
    text = PAGE.read_text()
    for variant in VARIANTS:
        assert f"| {variant.name} |" in text, f"run python -m minidl.check.mutants {PAGE}"
    wrong, killed, named = map(int, re.findall(r"(\d+) known-wrong variants: (\d+) killed .*?, (\d+) named", text)[0])
    assert wrong == killed == len(WRONG) >= 40
    assert named >= 0.9 * wrong
