"""docs/pytorch.md, followed word for word: its files are written, its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

ROOT = Path(__file__).parents[2]
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
        words = command.replace("python", sys.executable, 1).split()
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said[command] = done.stdout
    assert said["python in_pytorch.py"] == said["python in_minidl.py"]
    assert said["python back_in_pytorch.py"] == "<All keys matched successfully>\n"
    assert said["python run_onnx.py"] == "(2, 40)\n"
