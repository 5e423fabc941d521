"""A table's runs on the ranks of an MPI job."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mpi_runs import command, environment, mpi, needs_mpi

from minidl.reproduce.farm import Elsewhere, hired, train, workers
from minidl.reproduce.run_process import RunProcess
from minidl.train import Config

pytestmark = needs_mpi
FUTURES = ("-m", "mpi4py.futures")
TABLE1 = ("-m", "minidl.reproduce", "table1", "--sample", "--seeds", "1", "--backend", "numpy")


def test_ranks_train_a_run_each_and_rank_0_writes_the_table(tmp_path):
    words = (*TABLE1, "--scale", "0.005", "--only", "BN", "LN", "--out", tmp_path)
    done = mpi(3, *words, runner=FUTURES)
    assert done.returncode == 0, done.stderr
    assert "2 runs" in done.stdout
    assert "2 side by side" in done.stdout
    assert len(list(tmp_path.glob("runs/*/summary.json"))) == 2
    assert done.stdout.count("table1-sample-scale0.005.md") == 1
    assert not list(tmp_path.glob("runs/*/.orders"))


@pytest.mark.usefixtures("foreground")
def test_sigterm_lets_every_rank_save_what_it_trains(tmp_path):
    words = command(3, *TABLE1, "--only", "BN", "LN", "--out", tmp_path, runner=FUTURES)
    job = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and len(list(tmp_path.glob("runs/*/losses.jsonl"))) < 2:
        time.sleep(0.1)  # until both have done an update: before it there is nothing to save
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=300)
    assert job.returncode != 0
    assert "unfinished, saved; the same command continues" in said
    saved = {checkpoint.parent for checkpoint in tmp_path.glob("runs/*/checkpoints/step-*")}
    assert len(saved) == 2


class Pool:
    """Stands in for the ranks: what is submitted is kept."""

    def submit(self, *call):
        self.call = call
        from concurrent.futures import Future

        self.future = Future()
        return self.future


def test_rank_0_reaches_the_rank_that_trains_by_a_file(tmp_path):
    pool = Pool()
    run = Elsewhere(pool, Config(), tmp_path / "run")
    assert pool.call[0] is train
    assert run.status() is None
    run.stop()
    assert (tmp_path / "run" / ".orders").read_text("utf-8") == "stop"
    run.kill()
    assert (tmp_path / "run" / ".orders").read_text("utf-8") == "kill"
    other = Elsewhere(pool, Config(), tmp_path / "run")
    assert not (tmp_path / "run" / ".orders").exists()
    pool.future.set_result((3, "the loss is nan"))
    assert (other.status(), other.last_words()) == (3, "the loss is nan")


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize(("order", "status"), [("stop", 143), ("kill", -9)])
def test_an_order_stops_or_ends_a_run(tmp_path, order, status, monkeypatch):
    monkeypatch.setenv("MINIDL_BACKEND", "numpy")
    monkeypatch.setattr(sys, "executable", sys.executable)
    folder = tmp_path / "run"
    folder.mkdir()

    def status_or_order(self):
        found = real(self)
        if found is None and (folder / "config.json").exists():
            time.sleep(0.5)
            (folder / ".orders").write_text(order)
        return found

    real = RunProcess.status
    monkeypatch.setattr(RunProcess, "status", status_or_order)
    config = Config(task="mnist", norm="bn", sample=True, length="1000000u", batch_size=4)
    found, why = train(config, Path(folder))
    assert found == status
    assert why
    assert not (folder / ".orders").exists()


def test_without_mpi_runs_are_processes_here():
    assert workers() == 0
    with hired() as start:
        assert start is RunProcess
