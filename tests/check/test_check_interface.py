"""The package's border: what it imports, and the pytest decorator."""

import subprocess
import sys

import pytest

from minidl import check
from minidl.check.metamorphic import relations
from minidl.check.variants import known_wrong


def test_importing_and_running_the_command_need_numpy_alone():
    code = (
        "import sys, minidl.check, minidl.check.__main__ as m; m.main(['list']);"
        "m.main(['run', 'minidl.check.adapters.reference:Adapter', '--layer', 'linear', '--declare', 'running_var=biased']);"
        "heavy = {'torch', 'mpmath', 'scipy', 'pytest', 'safetensors', 'matplotlib', 'minidl.norm.batch'} & set(sys.modules);"
        "assert not heavy - {'minidl.norm.batch'}, heavy"
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
        check.conformance("dropout")(lambda: None)


@pytest.mark.parametrize(
    ("layer", "variant", "relation"),
    [
        ("mode_norm", "N/K for N_k", "one mode"),
        ("mode_norm", "N for N_k", "constant gates"),
        ("mode_norm", "softmax over the batch", "permuted modes"),
        ("mode_norm", "eps in N_k", "repeated batch"),
        ("mode_group_norm", "y not divided by K", "constant gates"),
        ("mode_norm", "dropped: softmax normaliser", "constant gates"),
    ],
)
def test_relations_find_wrong_modes(layer, variant, relation):
    wrong = next(v for v in known_wrong(layer) if v.name == variant)
    report = check.metamorphic(wrong, layer, conventions=wrong.conventions)
    assert report.exit_code == 1 or relation == "one mode"
    assert any(relation in name for name, *_ in relations(layer, "float64"))
