"""What variants compute, what an adapter may declare, and a baseline of known failures."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from batch_norm_by_hand import Bn, run
from tolerance import assert_close, rounding, terms

from minidl import check
from minidl.check.__main__ import main
from minidl.check.plain import plain_class
from minidl.check.variants import known_wrong


def test_variants_give_values_that_were_computed_by_hand():
    """Two samples of one channel, 1 and 3; gates of two modes that are 1/2 each."""
    x = np.array([[1.0], [3.0]])
    gated = next(v for v in known_wrong("mode_norm") if v.name == "BN of the gated input")
    layer = gated.make("mode_norm", {"eps": 0.0, "momentum": 0.1, "num_modes": 2})
    params = {"weight": np.array([2.0]), "bias": np.array([0.5])}
    layer.load({**params, "gate.weight": np.zeros((2, 1)), "gate.bias": np.zeros(2)}, {})
    # BN of x/2 is −1 and 1 in each of the two modes; their sum is weighted by 2, and the bias comes once
    assert_close(layer.forward(x, True), np.array([[-3.5], [4.5]]), terms(16, 4.5))

    rounded = next(v for v in known_wrong("softmax_cross_entropy") if v.name == "log of a rounded softmax")
    loss = rounded.make("softmax_cross_entropy", {})
    loss.load({"labels": np.array([1])}, {})
    with np.errstate(all="ignore"):
        assert loss.forward(np.array([[0.0, -800.0]]), True) == np.inf
        loss.load({"labels": np.array([0])}, {})
        assert loss.forward(np.array([[0.0, -800.0]]), True) == 0

    pool = next(v for v in known_wrong("avg_pool2d") if v.name == "dx overwrites")
    made = pool.make("avg_pool2d", {"kernel_size": [1, 2], "stride": [1, 1], "padding": [0, 0]})
    made.load({}, {})
    made.forward(np.arange(3.0).reshape(1, 1, 1, 3), True)
    # the windows are (0, 1) and (1, 2): the second overwrites the first at 1
    np.testing.assert_array_equal(made.backward(np.array([[[[2.0, 4.0]]]]))["dx"], [[[[1.0, 2.0, 2.0]]]])


def test_derived_gradients_are_those_of_the_forward_pass():
    """The plain layers' own formulas, against their forward passes differentiated in reverse."""
    from minidl.check.plain.derived import Derived

    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((5, 4, 3)), rng.standard_normal((5, 4, 3))
    options = {"eps": 1e-2, "momentum": 0.3, "num_modes": 3}
    params = {"weight": rng.standard_normal(4), "bias": rng.standard_normal(4)}
    params |= {"gate.weight": rng.standard_normal((3, 4)), "gate.bias": rng.standard_normal(3)}

    def gradients(x, dy, wrap=lambda layer: layer, **params):
        layer = wrap(plain_class("mode_norm")("mode_norm", options))
        layer.load(params, {})
        layer.forward(x, True)
        return layer.backward(dy)

    inputs = {"x": x, "dy": dy} | params
    allowed, derived = rounding(gradients, inputs), gradients(**inputs, wrap=Derived)
    for name, value in gradients(**inputs).items():
        assert np.abs(value).max() > 1e3 * allowed[name], f"{name}: a vacuous gradient"
        assert_close(derived[name], value, allowed[name], name)


def test_fixed_numbers_and_starts_can_be_declared():
    class Fixed(Bn):
        def __init__(self, layer, options):
            super().__init__(layer, {**options, "eps": 1e-5, "momentum": 0.1})

    assert run(Fixed).exit_code == 1
    declared = {**Bn.conventions, "eps": "1e-5", "momentum_value": "0.1"}
    assert run(Fixed, (), conventions=declared).exit_code == 0
    with pytest.raises(ValueError, match='eps must be "given" or a number'):
        run(Fixed, conventions={"eps": "small"})


@pytest.mark.parametrize(
    ("layer", "name", "convention"),
    [
        ("avg_pool2d", "padding not counted", {"count_include_pad": "no"}),
        ("max_pool2d", "last of equals", {"ties": "last"}),
        ("softmax_cross_entropy", "sum for mean", {"reduction": "sum"}),
        ("batch_norm", "running_var starts at 0", {"start": "zero"}),
    ],
)
def test_what_a_variant_does_can_be_declared(layer, name, convention):
    from dataclasses import replace

    variant = replace(next(v for v in known_wrong(layer) if v.name == name), derived=layer != "batch_norm")
    assert check.run(variant, layer, conventions=variant.conventions).exit_code == 1
    assert check.run(variant, layer, conventions={**variant.conventions, **convention}).exit_code == 0


def test_a_baseline_lets_known_failures_pass_and_new_ones_fail(tmp_path, capsys):
    known, wrong = tmp_path / "known.txt", ["--declare", "momentum=old", "--case", "momentum-0.1", "--case", "train3"]
    command = [
        "run",
        "minidl.check.adapters.reference:Adapter",
        "--layer",
        "batch_norm",
        *wrong,
        "--baseline",
        str(known),
    ]
    assert main(command) == 0
    assert "written, with 2 known failures" in capsys.readouterr().out
    assert main(command) == 0
    known.write_text("\n".join(known.read_text("utf-8").splitlines()[:-1]) + "\n")
    assert main(command) == 1
    junit = tmp_path / "junit.xml"
    assert main([*command, "--junit", str(junit)]) == 1
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")
