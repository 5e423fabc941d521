"""RMS norm and layer norm over the last axis, dilation and groups, bfloat16: right layers pass, wrong ones fail."""

import sys

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl import check
from minidl.check import bfloat16
from minidl.check.adapters.reference import Adapter as Reference
from minidl.check.plain import plain_class
from minidl.check.seeds import seeded
from minidl.check.suite import open_suite
from minidl.check.variants import variants_of

LAST = ("layer_norm_last", "rms_norm")
SUITE = open_suite()


@pytest.mark.parametrize("layer", LAST)
def test_the_second_oracle_conforms(layer):
    report = check.run(Reference, layer, "float64")
    assert report.exit_code == 0, report.text()
    assert report.count("passed") == len(report.results) > 20


def test_rms_norm_of_three_and_four_is_what_was_computed_by_hand():
    layer = plain_class("rms_norm")("rms_norm", {"eps": 0.0})
    layer.load({"weight": np.array([2.0, 0.5])}, {})
    # the mean of 9 and 16 is 12.5; 3 / sqrt(12.5) = 0.6 sqrt(2), 4 / sqrt(12.5) = 0.8 sqrt(2)
    y = layer.forward(np.array([[3.0, 4.0]]), True)
    assert_close(y, [[1.2 * 2**0.5, 0.4 * 2**0.5]], terms(16, 2))
    # d = (2, 0), d·xhat / 2 = 0.6 sqrt(2), dx = (2 − 0.72, −0.96) / sqrt(12.5)
    grads = layer.backward(np.array([[1.0, 0.0]]))
    assert_close(grads["dx"], np.array([[1.28, -0.96]]) / 12.5**0.5, terms(32, 2 / 12.5**0.5))
    assert_close(grads["dweight"], [0.6 * 2**0.5, 0.0], terms(16, 1))


class Partial(Reference):
    """Convolution without what its conventions do not declare."""

    def __init__(self, layer, options):
        super().__init__(layer, {k: v for k, v in options.items() if k not in ("dilation", "groups")})


def test_dilation_and_groups_are_asked_of_those_alone_who_declare_them():
    plain = {"grads": "overwrite"}
    report = check.run(Partial, "conv2d", conventions=plain)
    assert report.exit_code == 0
    spaced = [result for result in report.results if {"dilation", "groups"} & result.case.options.keys()]
    assert {key for result in spaced for key in result.case.options} >= {"dilation", "groups"}
    assert {result.status for result in spaced} == {"declared"}
    assert check.run(Partial, "conv2d", conventions={**plain, "dilation": "supported"}).exit_code == 1
    assert check.run(Reference, "conv2d", "float64").count("declared") == 0


def test_bfloat16_is_rounded_to_the_nearest_and_ties_to_even():
    ties = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -(1 + 2.0**-8), 3.0e38, np.inf, 0.0])
    want = [1.0, 1 + 4 * 2.0**-8, -1.0, 226 * 2.0**120, np.inf, 0.0]  # 3.0e38 is 225.7 · 2**120
    np.testing.assert_array_equal(bfloat16.rounded(ties), want)
    assert bfloat16.rounded(np.float32(2.5)).shape == ()


def test_bfloat16_is_that_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(5).standard_normal(4001).astype(np.float32) * np.float32(37)
    assert np.array_equal(bfloat16.rounded(x), x.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize("package", [True, False])
def test_a_layer_that_rounds_its_outputs_to_bfloat16_conforms(monkeypatch, package):
    if package:
        pytest.importorskip("ml_dtypes")
    else:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # as where it is not installed
    bfloat16.storage.cache_clear()
    seen = set()

    class Narrow(plain_class("rms_norm")):
        def forward(self, x, training):
            seen.add(x.dtype)
            return bfloat16.rounded(super().forward(x.astype(np.float32), training))

    try:
        report = check.run(Narrow, "rms_norm", "bfloat16")
    finally:
        bfloat16.storage.cache_clear()
    assert report.exit_code == 0, report.text()
    assert len(report.results) > 15
    assert seen == {np.dtype(__import__("ml_dtypes").bfloat16 if package else np.float32)}


def test_a_bug_is_found_and_named_in_bfloat16():
    variant = next(v for v in variants_of("layer_norm_last") if v.name == "weight plus one")
    report = check.run(variant, "layer_norm_last", "bfloat16", conventions=variant.conventions)
    assert report.exit_code == 1
    assert report.diagnosis[0].startswith("weight plus one: ")


def test_no_vector_says_that_it_is_of_bfloat16():
    assert not any(SUITE.case(entry).runs_in("bfloat16") for entry in SUITE.entries if entry.layer == "rms_norm")
    assert all(case.runs_in("float32") for case in seeded("rms_norm", "float32"))


@pytest.mark.parametrize("layer", SUITE.layers)
def test_no_variant_fails_by_a_slip_in_its_own_code(layer):
    """A variant whose text does not run would be 'named' by the exception it raises."""
    meant = (ValueError, AssertionError, IndexError)
    case = next(SUITE.case(e) for e in SUITE.entries if e.layer == layer and e.dtype == "float32")
    params = {
        name: value.astype(np.float64) if value.dtype.kind == "f" else value
        for name, value in case.group("param.").items()
    }
    for variant in variants_of(layer):
        made = variant.make(layer, case.options)
        made.load(params, {})
        try:
            with np.errstate(all="ignore"):
                made.forward(case.inputs["in.x.0"].astype(np.float64), True)
                made.backward(case.inputs["in.dy.0"].astype(np.float64))
        except meant:
            continue
