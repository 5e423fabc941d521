"""Promise 14: an exit status says how a command ended: each of those in docs/reliability.md, by the real commands."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train_command import run, start

import minidl

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
SHORT = ["lenet", "mnist", "--sample", "--norm", "bn", "--batch-size", "8", "--threads", "1", "--quiet"]


def done(folder):
    return run(folder, *SHORT, "--updates", 2, "--out", "R")


def done_already(folder):
    done(folder)
    return done(folder)


def listed(folder):
    return run(folder, "--list")


def a_folder_without_a_run(folder):
    return run(folder, "--resume", "--out", "absent")


def a_folder_that_holds_another_run(folder):
    done(folder)
    return run(folder, *SHORT, "--updates", 3, "--out", "R")


def a_folder_that_cannot_be_made(folder):
    (folder / "file").touch()
    return run(folder, *SHORT, "--updates", 2, "--out", "file/R")


def wrong_arguments(folder):
    return run(folder, *SHORT, "--updates", "some")


def wrong_settings(folder):
    return run(folder, *SHORT, "--batch-size", 99999)


def too_high_a_rate(folder):
    return run(folder, *SHORT, "--updates", 9, "--lr", "1e30", "--out", "R")


def no_data(folder):
    return run(folder, "lenet", "mnist", "--data-dir", "absent", "--quiet")


def damaged_checkpoints(folder):
    done(folder)
    for path in (folder / "R" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    return run(folder, "--resume", "--out", "R", "--quiet")


def checkpoints_of_another_run(folder):
    done(folder)
    run(folder, *SHORT, "--seed", 1, "--updates", 2, "--out", "R2")
    (path,) = (folder / "R" / "checkpoints").iterdir()
    path.write_bytes((folder / "R2" / "checkpoints" / path.name).read_bytes())
    return run(folder, "--resume", "--out", "R", "--quiet")


def a_log_that_is_a_pipe(folder):
    done(folder)
    (folder / "R" / "metrics.jsonl").unlink()
    os.mkfifo(folder / "R" / "metrics.jsonl")
    return run(folder, "--resume", "--out", "R", "--quiet")


def stopped_by(signum):
    def stop(folder):
        process = start(folder, *SHORT, "--updates", 10**6, "--checkpoint-every", 2, "--out", "R")
        deadline = time.monotonic() + 300
        while not list(folder.glob("R/checkpoints/step*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signum)
        out, err = process.communicate(timeout=300)
        assert "saved in R; --resume goes on from there" in err
        return process.returncode, out, err

    return stop


ENDS = {
    0: [done, done_already, listed],
    1: [
        a_folder_without_a_run,
        a_folder_that_holds_another_run,
        a_folder_that_cannot_be_made,
        a_log_that_is_a_pipe,
    ],
    2: [wrong_arguments, wrong_settings],
    3: [too_high_a_rate],
    4: [no_data, damaged_checkpoints, checkpoints_of_another_run],
    129: [stopped_by(signal.SIGHUP)],
    130: [stopped_by(signal.SIGINT)],
    143: [stopped_by(signal.SIGTERM)],
}


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize(("status", "end"), [(status, end) for status, ends in ENDS.items() for end in ends])
def test_training_ends_with_its_status_and_one_line_of_error(tmp_path, status, end):
    got, _, err = end(tmp_path)
    assert got == status, err
    assert err.count("\n") == (status != 0)
    assert all(line.startswith("minidl.train: ") for line in err.splitlines())


def test_the_page_lists_these_statuses_and_no_others():
    section = PAGE.read_text("utf-8").split("## Exit statuses")[1].split("\n## ")[0]
    listed = [int(n) for row in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for n in row.split(",")]
    assert sorted(listed) == sorted(ENDS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert done(folder)[0] == 0
    return folder


AFTER = {
    "evaluate": (["R", "--sample"], ["absent"], ["R", "--threads", "-1"]),
    "predict": (["R", "image.png"], ["absent", "image.png"], ["R"]),
    "export": (["R", "--safetensors", "w.safetensors"], ["absent", "--torch", "w.pt"], ["R"]),
}


@pytest.mark.parametrize("command", AFTER)
def test_what_uses_a_trained_network_has_the_same_statuses(tmp_path, trained, command):
    import shutil

    from PIL import Image

    def finish(arguments):
        line = [sys.executable, "-m", "minidl", command, *arguments]
        env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
        end = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert end.returncode == 0 or end.stderr.count("\n") == 1, end.stderr
        return end.returncode

    shutil.copytree(trained / "R", tmp_path / "R")
    Image.new("L", (30, 28), 9).save(tmp_path / "image.png")
    right, unusable, wrong = AFTER[command]
    assert [finish(right), finish(unusable), finish(wrong)] == [0, 1, 2]
    for path in (tmp_path / "R" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert finish(right) == 4


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (1, ["table1", "--report-only", "--out", "empty"]),
        (2, ["table1", "--seeds", "none"]),
        (4, ["table1", "--data-dir", "absent", "--out", "r"]),
    ],
)
def test_a_table_has_the_same_statuses(tmp_path, monkeypatch, capsys, status, arguments):
    from minidl.reproduce.__main__ import main

    monkeypatch.chdir(tmp_path)
    try:
        got = main(arguments)
    except SystemExit as end:
        got = end.code
    err = capsys.readouterr().err
    assert (got, err.count("\n")) == (status, 1), err
    assert err.startswith("minidl.reproduce: ")
