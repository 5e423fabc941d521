"""A table of two norms whose runs take a second: three evaluations of 24 updates on the bundled sample."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import minidl
from minidl.reproduce import published
from minidl.reproduce.plan import MULTITASK, Table

COLUMNS = {"BN": {"norm": "bn"}, "MN K=2": {"norm": "mn", "modes": 2}}
CONFIG = replace(MULTITASK, length="240u", eval_every=8, checkpoint_every=8)
TINY = Table(
    "table1",
    "Table 1: multi-task",
    {"N = 128": {"batch_size": 128}},
    COLUMNS,
    CONFIG,
    {"N = 128": published.TABLE1[128]},
)
LONG = replace(TINY, config=replace(CONFIG, length="1M"))  # never comes to its end
SHORT = ("--sample", "--scale", "0.1")

LONG_TABLE1 = """
import sys
sys.path.insert(0, {tests!r})
from tiny_table import LONG
from minidl.reproduce import plan
from minidl.reproduce.__main__ import main
plan.TABLES["table1"] = LONG
sys.exit(main(sys.argv[1:]))
"""


def start(folder, *args):
    """Start the command as a process, with LONG as Table 1."""
    code = LONG_TABLE1.format(tests=str(Path(__file__).parent))
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *args],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
