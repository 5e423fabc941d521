"""`python -m minidl.train` as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import minidl


def start(folder, *args):
    """Start the command in a folder."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-m", "minidl.train", *map(str, args)]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder, *args):
    """Run the command; return its status, standard output and standard error."""
    process = start(folder, *args)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
