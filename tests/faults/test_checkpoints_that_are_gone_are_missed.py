"""Promise 19: a run whose checkpoints cannot be seen is refused, and its logs stay."""

import os
import shutil

import pytest
from tiny_run import result, train

import minidl
from minidl.train.checkpoint import CheckpointError

LOGS = ("metrics.jsonl", "losses.jsonl", "config.json")

pytestmark = pytest.mark.usefixtures("no_curves")


def contents(run):
    """Return what the files hold that a run without a checkpoint would begin anew."""
    return [(run / name).read_bytes() for name in LOGS]


def close(checkpoints, monkeypatch):
    real = os.listdir

    def listdir(path="."):
        if os.fspath(path) == os.fspath(checkpoints):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)


@pytest.mark.parametrize("until", [7, None])
def test_a_folder_that_cannot_be_listed_is_not_empty(tmp_path, until, monkeypatch):
    train(tmp_path / "whole")
    train(tmp_path / "run", until=until)
    before = contents(tmp_path / "run")
    with monkeypatch.context() as patch:
        close(tmp_path / "run" / "checkpoints", patch)
        for use in (lambda: train(tmp_path / "run", resume=True), lambda: minidl.load(tmp_path / "run")):
            with pytest.raises(CheckpointError, match=r"checkpoints cannot be looked into \(Permission denied\); make"):
                use()
    assert contents(tmp_path / "run") == before
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_file_in_the_place_of_the_checkpoints_costs_no_log(tmp_path):
    run = tmp_path / "run"
    train(run)
    before = contents(run)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("x")
    with pytest.raises(CheckpointError, match=r"checkpoints is no folder; put the folder with the run's checkpoints"):
        train(run, resume=True)
    assert contents(run) == before


@pytest.mark.parametrize(
    ("until", "length", "told"),
    [(None, "14u", "summary.json says that it was finished"), (None, "20u", "finished"), (7, "14u", "on to update 6")],
)
def test_checkpoints_that_were_moved_away_are_missed_and_the_run_goes_on_with_them(tmp_path, until, length, told):
    run = tmp_path / "run"
    train(run, until=until)
    if until:
        for name in ("00000007", "00000004"):  # stopped after 7: what an interruption saved goes too
            assert list(run.glob(f"checkpoints/*{name}.safetensors"))
    before = contents(run)
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"{told}, and there is no checkpoint in .*; put its checkpoints back"):
        train(run, resume=True, length=length)
    assert contents(run) == before
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    (tmp_path / "elsewhere").rename(run / "checkpoints")
    train(run, resume=True, length=length)


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(tmp_path):
    train(tmp_path / "whole")
    train(tmp_path / "run", until=3)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == result(tmp_path / "whole")
