"""Promise: a finished run stays finished, whatever becomes of its picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import train

import minidl
from minidl.train import plots


def test_a_picture_that_cannot_be_drawn_is_a_warning(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError("no\nfonts")

    monkeypatch.setattr(plots, "draw_run", fail)
    trainer = train(tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").exists()
    assert trainer.run()["status"] == "finished"
    err = capsys.readouterr().err
    assert "curves.png could not be drawn (RuntimeError: no fonts); the run itself is whole" in err


@pytest.mark.parametrize("setting", [{"text.usetex": True}, {"font.family": ["No Such Font"]}])
def test_the_users_own_settings_of_matplotlib_do_not_matter(tmp_path, setting):
    import matplotlib

    with matplotlib.rc_context(setting):
        train(tmp_path / "run")
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_backend_is_our_own_choice(tmp_path):
    args = [
        "lenet",
        "mnist",
        "--sample",
        "--norm",
        "none",
        "--updates",
        "1",
        "--batch-size",
        "8",
        "--quiet",
        "--out",
        "R",
    ]
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), "MPLBACKEND": "module://absent.backend"}
    command = [sys.executable, "-m", "minidl.train", *args]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "R" / "curves.png").exists()
