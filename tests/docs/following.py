"""Following a page of the documentation word for word: its files are written, its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import minidl

DOCS = Path(minidl.__file__).parents[1] / "docs"


def files_of(page):
    """Return {name: content} of the page's Python files, each named in its first line."""
    return dict(re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.S))


def commands_of(page):
    return re.findall(r"^\$ (.*)$", page, re.M)


def run(folder, command):
    """Run a command of the page, and return what it prints."""
    words = command.replace("python", sys.executable, 1)
    env = {**os.environ, "PYTHONPATH": str(DOCS.parent), "PYTHONWARNINGS": "error"}
    env["MINIDL_BACKEND"] = "numpy"  # else a command says which it took
    env["MINIDL_DATA"] = str(folder / "cache")
    done = subprocess.run(["bash", "-c", words], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done.stderr}"
    return done.stdout


def follow(folder, page):
    """Write the page's files into a folder and return {command: what it printed}."""
    for name, content in files_of(page).items():
        (folder / name).write_text(content, "utf-8")
    return {command: run(folder, command) for command in commands_of(page)}
