"""PyTorch's norms through the shipped adapter, and a mode norm with the released code's interface."""

import pytest

from minidl import check

pytest.importorskip("torch")
NORMS = "minidl.check.adapters.torch_norms:Adapter"
MODES = "minidl.check.adapters.torch_mode_norm:Adapter"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", ["batch_norm", "instance_norm", "layer_norm", "group_norm"])
def test_pytorch_conforms(layer, dtype):
    report = check.run(NORMS, layer, dtype)
    assert report.exit_code == 0, report.text()


def test_the_bugs_of_the_released_mode_norm_are_named():
    report = check.run(MODES, "mode_norm", "float64")
    causes = {result.case.flag: result.cause for result in report.results if result.status == "failed"}
    assert causes["eval-fresh"] == "running moments start at 0"
    assert causes["empty-mode"] == "0/0 for an empty mode"
    assert causes["negative-variance"] == "variance not clamped"
    assert causes["reload"] == "running moments start at 0 + state not saved"
    assert causes["modes-1"] == "squeeze of a single mode"
    assert causes["mean-1e5"] == "one-pass variance"
    assert report.exit_code == 1
    assert report.count("passed") > 25
