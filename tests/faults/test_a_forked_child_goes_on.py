"""Promise: a child that is forked amid training neither hangs nor shares its parent's run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CHILD = """
import os, signal, sys, warnings
sys.path[:0] = {paths!r}
warnings.simplefilter("ignore")  # newer Pythons warn of forking with threads: that is what is tried here
import numpy as np
from tiny_run import make_tiny, tiny_config, tiny_task, train, result
from minidl.models import MODELS
from minidl.train import RunError, Trainer, plots
MODELS["tiny"] = make_tiny
plots.draw_run = lambda *args: None
signal.alarm(60)  # ends what hangs
"""


def python(folder, program):
    root = Path(minidl.__file__).parents[1]
    head = CHILD.format(paths=[str(root), str(root / "tests" / "train")])
    done = subprocess.run(
        [sys.executable, "-c", head + program], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_with_an_inherited_iterator_it_gets_the_same_batches(tmp_path):
    python(
        tmp_path,
        """
trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
batches = [x.tobytes() for x, _, _ in Trainer(tiny_config(), quiet=True, task=tiny_task())._loader]
loader = iter(trainer._loader)
assert next(loader)[0].tobytes() == batches[0]
child = os.fork()
assert [x.tobytes() for x, _, _ in loader] == batches[1:]
if child == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""",
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_its_training_is_that_of_any_process_and_the_parent_notices(tmp_path, threads):
    python(
        tmp_path,
        f"""
from pathlib import Path
train(Path("whole"), threads={threads})
trainer = train(Path("run"), until=7, threads={threads})
if (child := os.fork()) == 0:
    trainer.run()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert result(Path("run")) == result(Path("whole"))
try:
    trainer.run()
except RunError as error:
    assert "another Trainer went on with the run" in str(error)
else:
    raise AssertionError("the parent wrote as well")
""",
    )
