"""Following a page of the documentation word for word: its files are written, its commands run."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PYTHON = shlex.quote(sys.executable)
COMMANDS = {"python": PYTHON, "minidl": f"{PYTHON} -m minidl"}


def files_of(page):
    """Return {name: content} of the page's Python files, each named in its first line."""
    return dict(re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.S))


def commands_of(page):
    return re.findall(r"^\$ (.*)$", page, re.M)


def lacks(command):
    """Return the optional package that a command needs and that is not installed, or None."""
    packages = ("onnx", "onnxruntime") if "onnx" in command or "anywhere.py" in command else ()
    return next((package for package in packages if find_spec(package) is None), None)


def run(folder, command):
    """Run a command of the page, and return what it prints."""
    words = re.sub(r"^(python|minidl)\b", lambda m: COMMANDS[m[1]], command)
    env = {**os.environ, "PYTHONPATH": str(DOCS.parent), "PYTHONWARNINGS": "error"}
    env["MINIDL_BACKEND"] = "numpy"  # else a command says which it took
    env["MINIDL_DATA"] = str(folder / "cache")
    done = subprocess.run(["bash", "-c", words], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    said = "" if "anywhere.py" in command else done.stderr  # onnxruntime says there that it found no GPU
    assert (done.returncode, said) == (0, ""), f"{command}: {done.stderr}"
    return done.stdout


def follow(folder, page):
    """Write the page's files into a folder and return {command: what it printed}, but for those that lack a package."""
    for name, content in files_of(page).items():
        (folder / name).write_text(content, "utf-8")
    return {command: run(folder, command) for command in commands_of(page) if lacks(command) is None}
