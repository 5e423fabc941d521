"""A layer that declares a variance in one pass is held to what that formula rounds, and to no more."""

import numpy as np
import pytest
from batch_norm_by_hand import Bn, named, run

from minidl import check
from minidl.check.conventions import declared
from minidl.check.converted import in_convention
from minidl.check.expected import exactly, tolerances
from minidl.check.suite import open_suite
from minidl.check.variants import TABLES, known_wrong

ONE_PASS = {layer: variant for layer in TABLES for variant in known_wrong(layer) if variant.name == "one-pass variance"}


class OnePass(Bn):
    conventions = {**Bn.conventions, "variance": "one_pass"}  # noqa: RUF012

    def variance(self, x, mean):
        return np.maximum((x * x).mean(self.axes) - mean * mean, 0)

    def forward(self, x, training):
        if not training:
            return super().forward(x, training)
        self.axes, self.t = (0, *range(2, x.ndim)), training
        self.col = (1, -1) + (1,) * (x.ndim - 2)
        mean, lam = x.mean(self.axes), x.dtype.type(self.o["momentum"])
        var = self.variance(x, mean)
        self.s = {k: (1 - lam) * self.s[k] + lam * new for k, new in zip(self.s, (mean, var), strict=True)}
        self.r = (1 / np.sqrt(var + x.dtype.type(self.o["eps"]))).reshape(self.col)
        self.h = (x - mean.reshape(self.col)) * self.r
        return self.p["weight"].reshape(self.col) * self.h + self.p["bias"].reshape(self.col)


class Unbiased(OnePass):
    conventions = {**OnePass.conventions, "running_var": "unbiased"}  # noqa: RUF012

    def variance(self, x, mean):
        n = x.size // x.shape[1]
        return super().variance(x, mean) * x.dtype.type(n / max(n - 1, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_declared_one_pass_variance_conforms_in_every_case(dtype):
    report = run(OnePass, (), dtype=dtype)
    assert [result.case.id for result in report.results if result.status == "failed"] == []
    assert {result.case.flag for result in report.results if "large mean" in result.message} == {
        "mean-1e3",
        "mean-1e5",
        "constant",
    }


def test_one_that_is_not_declared_deviates():
    report = run(OnePass, ["mean-10-", "mean-1e3"], conventions=Bn.conventions)
    assert report.exit_code == 1


@pytest.mark.parametrize("layer", sorted(ONE_PASS))
def test_every_layer_may_declare_it(layer):
    variant = ONE_PASS[layer]
    agreed = {**variant.conventions, "variance": "one_pass"}
    assert check.run(variant, layer, conventions=agreed).exit_code == 0


def test_what_is_wrong_beside_it_is_still_named():
    assert named(run(Unbiased, ())) == ["unbiased variance in forward"]


def test_the_tolerance_of_the_variance_grows_with_the_square_of_the_mean():
    """Of E[x²] − m² as of 1 + m²/v; that of two passes grows as the rounding of x, with m alone."""
    shipped = open_suite()
    found = next(entry for entry in shipped.entries if entry.id == "batch_norm-shape-nchw-float32-01")
    name, agreed = "state.1.running_var", declared({"variance": "one_pass"})

    def relative(mean, one_pass):
        case = shipped.case(found)
        x = case.inputs["in.x.0"]
        axes = (0, *range(2, x.ndim))
        x = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True) + mean  # of variance 1
        case.inputs["in.x.0"] = x.astype(np.float64)
        case.expected = {key: np.asarray(value, np.float64) for key, value in exactly(case).items()}
        case.tol = {"float32": tolerances(case, "float32", case.expected)}
        tol = in_convention(case, agreed if one_pass else declared({}), "float32").tol["float32"]
        return float(tol[name].mean())

    twice = {mean: relative(mean, True) for mean in (0.0, 10.0, 100.0)}
    assert 0.5 < twice[100.0] / twice[10.0] / ((1 + 100**2) / (1 + 10**2)) < 2
    assert twice[10.0] > 5 * relative(10.0, False)
    assert twice[0.0] < 2 * relative(0.0, False)
