"""Runs under mpiexec: real processes, real messages, and what happens when one of them dies."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mpi_runs import command, environment, mpi, needs_mpi, train_words

from minidl.distributed import LaunchError, communicator
from minidl.distributed.launch import launched, unlaunched
from minidl.train.checkpoint import load_latest

pytestmark = needs_mpi


def last_checkpoint(out):
    return max((out / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """A run on two ranks, and what its command said."""
    out = tmp_path_factory.mktemp("mpi") / "run"
    return out, mpi(2, *train_words(out, "--sync-norm"))


def test_a_run_on_two_ranks_says_and_writes_everything_once(two_ranks):
    out, done = two_ranks
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [line.split(":")[0] for line in done.stdout.splitlines()].count("last") == 1
    assert "2 processes" in done.stdout
    content = json.loads((out / "config.json").read_text("utf-8"))["config"]
    assert (content["ranks"], content["sync_norm"]) == (2, True)
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()] == [3, 6]
    assert json.loads((out / "summary.json").read_text("utf-8"))["machine"]["ranks"] == 2


def test_as_many_ranks_give_the_same_bytes_again(two_ranks, tmp_path):
    assert mpi(2, *train_words(tmp_path / "run", "--sync-norm")).returncode == 0
    assert last_checkpoint(tmp_path / "run").read_bytes() == last_checkpoint(two_ranks[0]).read_bytes()


def test_the_same_command_again_is_done_already_and_one_process_goes_on_longer(two_ranks, tmp_path):
    out = shutil.copytree(two_ranks[0], tmp_path / "run")
    again = mpi(2, *train_words(out, "--sync-norm"))
    assert again.returncode == 0
    assert again.stdout.count("done already") == 1
    longer = subprocess.run(
        [*command(1)[3:4], "-m", "minidl.train", "--out", out, "--resume", "--updates", "8", "--backend", "numpy"],
        capture_output=True, text=True, timeout=300, env=environment(),
    )  # fmt: skip
    assert longer.returncode == 0, longer.stderr
    assert "goes on with 1 process after update 6, 2 processes before" in longer.stderr
    assert json.loads((out / "config.json").read_text("utf-8"))["went_on"] == [{"after_update": 6, "ranks": 1}]


def started(out, ranks):
    """Start a run that would take long, and return it once it has a checkpoint."""
    words = train_words(out, "--updates", "1000000")
    process = subprocess.Popen(
        command(ranks, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (out / "checkpoints").is_dir() and process.poll() is None:
        time.sleep(0.05)
    assert (out / "checkpoints").is_dir(), process.communicate()
    return process


def ranks_of(process):
    """Return the process ids of an mpiexec's Python processes."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text("utf-8").rpartition(")")[2].split()[1])
    below = [process.pid]
    for pid in below:  # grows on the way
        below += [child for child, parent in parents.items() if parent == pid]
    return [pid for pid in below[1:] if b"mpi4py" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:3]]


def test_a_rank_that_is_killed_ends_the_job_and_the_last_checkpoint_is_whole(tmp_path):
    process = started(tmp_path / "run", 3)
    ranks = ranks_of(process)
    assert len(ranks) == 3
    os.kill(ranks[-1], signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode != 0
    warnings = []
    found = load_latest(tmp_path / "run" / "checkpoints", warnings.append)
    assert found is not None
    assert warnings == []
    for rank in ranks:
        assert not os.path.exists(f"/proc/{rank}")


@pytest.mark.usefixtures("foreground")
def test_sigterm_saves_and_ends_all_ranks_with_one_line(tmp_path):
    process = started(tmp_path / "run", 2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert [line for line in said.splitlines() if "minidl.train" in line][-1].count("saved in") == 1
    assert said.count("stopped after update") == 1


def test_what_all_ranks_run_into_is_said_once(tmp_path):
    done = mpi(3, *train_words(tmp_path / "run", "--batch-size", "2"))
    assert done.returncode != 0  # 2, or that of the ranks which mpiexec ends when the first is gone
    assert done.stderr.splitlines() == [
        "minidl.train: --batch-size must be at least 3, an image for each process, got 2; "
        "raise it, or start fewer processes"
    ]


@pytest.mark.parametrize("words", [["--seed", "3"], ["--list"], ["--help"], ["--nonsense"]])
def test_ranks_with_other_arguments_are_refused_and_none_waits_for_the_others(tmp_path, words):
    one = command(1, *train_words(tmp_path / "run"))
    done = subprocess.run(
        [*one, ":", *one[1:], *words], capture_output=True, text=True, timeout=120, env=environment(), cwd=tmp_path
    )
    assert done.returncode == 2
    why = f"rank 1 was started with other arguments than rank 0 ({' '.join(words)}); give all the same"
    assert (done.stdout, done.stderr) == ("", f"minidl.train: {why}\n")
    assert not (tmp_path / "run").exists()


def test_a_wrong_argument_is_said_once(tmp_path):
    done = mpi(2, *train_words(tmp_path / "run", "--nonsense"))
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_what_one_rank_runs_into_ends_the_job_with_its_line(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        "import sys\n"
        "from mpi4py import MPI\n"
        "from minidl.data import DataError\n"
        "from minidl.train import __main__, build\n"
        "if MPI.COMM_WORLD.rank == 1:\n"
        "    def fail(*args): raise DataError('the disk of this machine is gone')\n"
        "    build.find_task = fail\n"
        "sys.exit(__main__.main(sys.argv[1:]))\n"
    )
    done = mpi(2, script, *train_words(tmp_path / "run")[2:])
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("minidl")] == [
        "minidl.train: rank 1: the disk of this machine is gone"
    ]


def test_several_processes_without_mpi4pys_runner_are_refused(tmp_path):
    done = mpi(2, *train_words(tmp_path / "run"), runner=())
    assert done.returncode != 0
    assert "2 processes were started without mpi4py" in done.stderr
    assert "mpiexec -n 2 python -m mpi4py -m minidl.train" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_a_process_knows_how_many_were_started(monkeypatch, name):
    assert communicator().size == 1
    monkeypatch.setenv(name, "3")
    assert launched() == 3
    with pytest.raises(LaunchError, match=r"-n 3 python -m mpi4py -m minidl\.train"):
        communicator()
    monkeypatch.setattr(os, "environ", unlaunched(os.environ))
    assert launched() == 1
