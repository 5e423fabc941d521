"""A layer of one's own that writes into what it is given: one line with the place, and the run goes on."""

import pytest
from own_norm import NORM, folder_of_a_norm, said, train

__all__ = ["folder_of_a_norm"]  # a fixture
pytestmark = pytest.mark.usefixtures("no_curves")

WRITES = """

class Writes(Scale):
    def forward(self, x):
        x FORWARD 2
        return super().forward(x)

    def backward(self, dy):
        dy BACKWARD 2
        return super().backward(dy)
"""


@pytest.mark.parametrize(("method", "array", "other"), [("forward", "x", "before"), ("backward", "dy", "after")])
def test_a_layer_that_writes_into_what_it_is_given_is_said_in_one_line(folder, capsys, method, array, other):
    writes = WRITES.replace(method.upper(), "*=").replace("FORWARD", "+").replace("BACKWARD", "+")
    (folder / "my_scale.py").write_text(NORM + writes)
    assert train(norm="my_scale:Writes") == 0
    err = said(capsys)
    assert f"(Writes).{method}: it writes into {array}, which is also the array of the layer {other} it," in err
    assert f"(Writes.{method}, my_scale.py, line " in err
    assert f"compute a new one, as {array} = {array} * 2 does" in err


def test_a_layer_that_writes_into_an_array_of_its_own_is_right(folder, capsys):
    right = WRITES.replace("x FORWARD 2", "x = x * 2").replace("dy BACKWARD 2", "dy = dy * 2")
    (folder / "my_scale.py").write_text(NORM + right)
    assert train(norm="my_scale:Writes") == 0
    assert capsys.readouterr().err == ""
