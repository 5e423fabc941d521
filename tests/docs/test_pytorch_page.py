"""docs/pytorch.md, followed word for word: its files are written, its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl.interchange import to_torch_state

ROOT = Path(__file__).parents[2]
# sums over 84 values come to 1000 at most: 84 roundings of 1e-13 each, in float64
TOLERANCE = 1e-11
PAGE = (ROOT / "docs" / "pytorch.md").read_text("utf-8")


def test_the_pages_commands_give_what_it_says(tmp_path):
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    for name, content in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.S):
        (tmp_path / name).write_text(content, "utf-8")
    package = str(Path(minidl.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": package, "MINIDL_BACKEND": "numpy", "MINIDL_DATA": str(tmp_path / "cache")}
    said = {}
    for command in re.findall(r"^\$ (.*)$", PAGE, re.M):
        python, *rest = command.split()
        assert python == "python"
        words = [sys.executable, *rest]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said[command] = done.stdout
    assert said["python in_pytorch.py"] == said["python in_minidl.py"]
    assert said["python fine_tune.py"] == "20 updates\n"
    assert said["python back_in_pytorch.py"] == "<All keys matched successfully>\n"
    assert said["python run_onnx.py"] == "(2, 40)\n"


@pytest.mark.parametrize("modes", [1, 3])
def test_the_pages_mode_norm_gives_minidls_numbers(modes):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    made = {}
    exec(re.search(r"```python\n# mode_norm.py\n(.*?)```", PAGE, re.S)[1], made)
    rng = np.random.default_rng(modes)
    ours = minidl.ModeNorm(5, modes, rng=rng, dtype="float64")
    for value in ours.params.values():
        value += rng.normal(size=value.shape)
    theirs = made["ModeNorm"](5, modes).double()
    state = {name: torch.tensor(value) for name, value in to_torch_state(ours).items()}
    assert sorted(theirs.state_dict()) == sorted(state)
    theirs.load_state_dict(state)
    for training in (True, True, False):
        x, dy = rng.normal(3, 2, (2, 7, 5, 4, 3))
        ours.train(training), theirs.train(training)
        inward = torch.tensor(x, requires_grad=True)
        y = theirs(inward)
        y.backward(torch.tensor(dy))
        pairs = {"y": (y, ours.forward(x)), "dx": (inward.grad, ours.backward(dy))}
        pairs |= {name: (parameter.grad, ours.grads[name]) for name, parameter in theirs.named_parameters()}
        pairs |= {name: (buffer, ours.buffers[name]) for name, buffer in theirs.named_buffers()}
        for name, (found, wanted) in pairs.items():
            np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=TOLERANCE, err_msg=name)
