"""The package's border: what it imports, and the pytest decorator."""

import subprocess
import sys

import pytest

from minidl import check
from minidl.check.variants import known_wrong


def test_importing_and_running_the_command_need_numpy_alone():
    code = (
        "import sys, minidl.check, minidl.check.__main__ as m; m.main(['list']);"
        "m.main(['run', 'minidl.check.adapters.reference:Adapter', '--layer', 'linear', '--declare', "
        "'running_var=biased']);"
        "heavy = {'torch', 'mpmath', 'scipy', 'pytest', 'safetensors', 'matplotlib'} & set(sys.modules); assert "
        "not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_decorator_fails_a_wrong_layer_with_a_diagnosis():
    wrong = next(v for v in known_wrong("layer_norm") if v.name == "bias ignored")

    @check.conformance("layer_norm", "float64")
    def given():
        return wrong

    marks = given.pytestmark[0]
    assert marks.args[0] == "entry"
    with pytest.raises(pytest.fail.Exception, match="bias ignored: bias is not added to y"):
        given(marks.args[1][0])


def test_the_decorator_refuses_an_unknown_layer():
    with pytest.raises(ValueError, match="layer must be one of batch_norm"):
        check.conformance("dropout", "float32")
    with pytest.raises(ValueError, match="dtype must be one that layer_norm has cases in, got 'float12'; give"):
        check.conformance("layer_norm", "float12")


@pytest.mark.parametrize(
    ("layer", "variant", "relation"),
    [
        ("mode_norm", "N/K for N_k", "constant gates are batch norm"),
        ("mode_norm", "softmax over the batch", "one mode is batch norm"),
        ("mode_norm", "eps in N_k", "repeated batch"),
        ("mode_group_norm", "C for C_nk", "constant gates are group norm"),
        ("group_norm", "statistics over the batch", "one group is layer norm"),
    ],
)
def test_relations_find_wrong_layers(layer, variant, relation):
    wrong = next(v for v in known_wrong(layer) if v.name == variant)
    report = check.metamorphic(wrong, layer, conventions=wrong.conventions)
    assert f"{layer}: {relation}" in [result.case.id for result in report.results if result.status == "failed"]
