"""Running what is missing: skipped, resumed, stopped, failed."""

import json
import re
import shutil
import signal
import time
from dataclasses import replace

import pytest
from tiny_table import LONG, SHORT, TINY, start

from minidl.reproduce import plan
from minidl.reproduce.__main__ import main
from minidl.reproduce.plan import runs
from minidl.reproduce.run_process import BusyError, RunProcess
from minidl.train.evaluation import TIME_FIELDS


def log(folder):
    """Return a run's evaluations without their times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIME_FIELDS} for line in lines]


def wait_for(what):
    """Wait until `what()` is true."""
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def config(seed, norm="bn"):
    """The configuration of one of the tiny table's runs."""
    (one,) = (
        run.config
        for run in runs(TINY, 2, plan.Decimal("0.1"), sample=True, backend="numpy")
        if (run.seed, run.config.norm) == (seed, norm)
    )
    return one


def test_a_run_is_trained_as_planned_on_one_thread(trained):
    folder = next(trained.glob("runs/lenet-multitask-bn-n128-seed1-*"))
    content = json.loads((folder / "config.json").read_text("utf-8"))
    assert content["config"] == {**config(1).to_json(), "threads": 1}
    assert [line["step"] for line in log(folder)] == [8, 16, 24]


def test_how_each_run_was_started_is_kept(trained):
    for folder in trained.glob("runs/*"):
        (start_line,) = map(json.loads, (folder / "starts.jsonl").read_text("utf-8").splitlines())
        assert start_line["command"].startswith("python -m minidl.train lenet multitask --updates 24 --norm")
        assert {"date", "minidl", "commit"} < set(start_line)


def test_what_is_done_is_not_run_again(trained, capsys):
    before = {file: file.stat().st_mtime_ns for file in trained.glob("runs/*/*")}
    assert main(["table1", *SHORT, "--seeds", "2", "--out", str(trained)]) == 0
    assert {file: file.stat().st_mtime_ns for file in trained.glob("runs/*/*")} == before
    assert "4 runs in" in (out := capsys.readouterr().out)
    assert "4 done, 0 to be resumed, 0 to be run" in out


def test_a_dry_run_lists_every_run_and_does_nothing(trained, capsys):
    shutil.rmtree(next(trained.glob("runs/*-mn2-*-seed0-*")))
    next(trained.glob("runs/*-bn-*-seed1-*/summary.json")).unlink()
    before = sorted(trained.rglob("*"))
    assert main(["table1", *SHORT, "--seeds", "2", "--dry-run", "--out", str(trained)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "N = 128" in line]
    assert [line.partition(":")[0] for line in lines] == [
        "done   N = 128, BN, seed 0",
        "run    N = 128, MN K=2, seed 0",
        "resume N = 128, BN, seed 1",
        "done   N = 128, MN K=2, seed 1",
    ]
    assert sorted(trained.rglob("*")) == before


def test_only_the_runs_asked_for_are_trained_and_the_table_says_what_is_missing(trained, capsys):
    for folder in list(trained.glob("runs/*-seed1-*")):
        shutil.rmtree(folder)
    args = ["table1", *SHORT, "--seeds", "2", "--jobs", "1", "--out", str(trained)]
    assert main([*args, "--only", "MN K=2", "seed 7"]) == 0
    out = capsys.readouterr().out
    assert "2 runs in" in out
    assert "1 done, 0 to be resumed, 1 to be run" in out
    assert ["-mn2-" in path.name for path in trained.glob("runs/*-seed1-*")] == [True]
    assert "Incomplete: 1 of 4 runs are missing." in out
    assert main([*args, "--only", "GN"]) == 1
    assert capsys.readouterr().err == ("minidl.reproduce: no run's name contains GN; --dry-run lists the names\n")


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_numbers(trained, capsys):
    folder = next(trained.glob("runs/*-bn-*-seed0-*"))
    whole = log(folder)
    shutil.rmtree(folder)
    child = RunProcess(config(0), folder)
    wait_for(lambda: list(folder.glob("checkpoints/step*")))
    child.kill()
    (folder / "summary.json").unlink(missing_ok=True)  # on a slow machine it may have come to its end
    assert main(["table1", *SHORT, "--seeds", "2", "--out", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "3 done, 1 to be resumed, 0 to be run" in out
    assert "resuming N = 128, BN, seed 0" in out
    assert re.search(r"resuming .* after update (8|16|24) of 24", (folder / "log.txt").read_text("utf-8"))
    assert log(folder) == whole
    assert len((folder / "starts.jsonl").read_text("utf-8").splitlines()) == 2


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_stops_the_runs_and_leaves_them_to_be_resumed(tmp_path, monkeypatch, capsys):
    process = start(tmp_path, "table1", "--sample", "--seeds", "2", "--jobs", "1", "--out", "out")
    wait_for(lambda: list(tmp_path.glob("out/runs/*/checkpoints/step*")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, len(err.splitlines())) == (130, 1)
    assert "stopped with 4 of 4 runs unfinished, saved; the same command continues" in err
    assert "SIGINT: the runs save and stop" in out
    (folder,) = tmp_path.glob("out/runs/*")
    assert "saved in" in (folder / "log.txt").read_text("utf-8")
    monkeypatch.setitem(plan.TABLES, "table1", LONG)
    assert main(["table1", "--sample", "--seeds", "2", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    states = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "N = 128" in line]
    assert states == ["resume", "run", "run", "run"]


def test_a_failed_run_is_one_line_and_does_not_stop_the_others(trained, monkeypatch, capsys):
    shutil.rmtree(next(trained.glob("runs/*-mn2-*-seed0-*")))
    columns = {"GN": {"norm": "gn", "groups": 5}, **TINY.columns}  # 5 does not divide 6 channels
    paper = {"N = 128": {"GN": (1.0, 1.0), **TINY.paper["N = 128"]}}
    monkeypatch.setitem(plan.TABLES, "table1", replace(TINY, columns=columns, paper=paper))
    assert main(["table1", *SHORT, "--seeds", "1", "--jobs", "1", "--out", str(trained)]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("minidl.reproduce: N = 128, GN, seed 0 failed: GroupNorm")
    assert line.endswith("log.txt)")
    assert "| seeds | 0 | 1 | 1 |" in captured.out


def test_a_folder_in_which_another_process_trains_is_left_alone(trained, capsys):
    folder = next(trained.glob("runs/*-bn-*-seed0-*"))
    shutil.rmtree(folder)
    child = RunProcess(replace(config(0), length="100000u"), folder)
    try:
        with pytest.raises(BusyError, match=r"another process is training in .*; run the same command again"):
            RunProcess(config(0), folder)
        assert main(["table1", *SHORT, "--seeds", "2", "--out", str(trained)]) == 1
        assert "N = 128, BN, seed 0 failed: another process is training" in capsys.readouterr().err
    finally:
        child.kill()
