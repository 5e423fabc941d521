"""Promise 1: a resumed run ends with the bytes of one that never stopped, with the settings it had."""

import json
from pathlib import Path

import pytest
from tiny_run import BATCHES, TOTAL, result, tiny_config, tiny_task, train

from minidl.models import MODELS
from minidl.optim import SGD
from minidl.train import RunError, StoppedError, Trainer, checkpoint
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")


def test_an_interrupt_within_an_update_is_not_gone_on_with_but_resumed(tmp_path, monkeypatch, uninterrupted):
    step = SGD.step

    def interrupted(self):
        step(self)
        if trainer.step == 6:
            raise KeyboardInterrupt

    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    with monkeypatch.context() as patch:
        patch.setattr(SGD, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    with pytest.raises(RunError, match="the last run ended within update 7; make a new Trainer with resume=True"):
        trainer.run()
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_a_resume_keeps_checkpoint_every_and_threads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "7", "--batch-size", "8", "--out", "R", "--norm", "bn"]
    run, seen = Trainer.run, []

    def stopping(self):
        seen.append(self.config)
        summary = run(self, until=3 if len(seen) == 1 else None)
        if len(seen) == 1:
            raise StoppedError(15, "stopped")
        return summary

    monkeypatch.setattr(Trainer, "run", stopping)
    assert main([*args, "--checkpoint-every", "2", "--threads", "1"]) == 143
    assert main(["--resume", "--out", "R", "--quiet"]) == 0
    assert [(config.checkpoint_every, config.threads) for config in seen] == [(2, 1), (2, 1)]
    steps = [path.name for path in checkpoint.list_steps(tmp_path / "R" / "checkpoints")]
    assert steps == ["step-000000006.safetensors", "step-000000007.safetensors"]


def test_threads_that_were_not_given_are_those_of_the_machine_again(tmp_path):
    train(tmp_path / "run", until=2, threads=None)
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]["threads"] is None


@pytest.mark.parametrize("stop", range(1, TOTAL + 1))
def test_a_run_resumed_after_any_update_is_the_uninterrupted_run(tmp_path, uninterrupted, stop):
    train(tmp_path / "run", until=stop)
    assert train(tmp_path / "run", resume=True, threads=2).step == TOTAL
    assert result(tmp_path / "run") == uninterrupted


def test_a_run_resumed_after_every_update_is_the_uninterrupted_run(tmp_path, uninterrupted):
    for stop in range(1, TOTAL + 1):
        train(tmp_path / "run", until=stop, resume=stop > 1)
    assert result(tmp_path / "run") == uninterrupted


def test_one_trainer_run_in_pieces_is_the_uninterrupted_run(tmp_path, uninterrupted):
    trainer = train(tmp_path / "run", until=3)
    for stop in (BATCHES, BATCHES + 1, None):
        trainer.run(stop)
    assert result(tmp_path / "run") == uninterrupted


def test_checkpoint_every_and_resuming_do_not_change_the_summary(tmp_path):
    train(tmp_path / "a")
    train(tmp_path / "b", until=7, checkpoint_every=3)
    train(tmp_path / "b", resume=True)
    first, second = (json.loads((tmp_path / name / "summary.json").read_text("utf-8")) for name in "ab")
    for name in ("status", "step", "best", "parameters", "machine"):
        assert json.dumps(first[name]) == json.dumps(second[name])


def test_a_run_that_died_before_its_first_checkpoint_starts_from_the_beginning(tmp_path, uninterrupted):
    Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_resuming_a_finished_run_changes_nothing(tmp_path, uninterrupted):
    train(tmp_path / "run")
    summary = train(tmp_path / "run", resume=True).run()
    assert summary["status"] == "finished"
    assert result(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_it_is_so_for_a_residual_network_with_dropout_on_each_engine(tmp_path, monkeypatch, backend, optimiser):
    if backend == "numba":
        pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "campaigns")
    from kills import make_residual

    monkeypatch.setitem(MODELS, "residual", make_residual)
    given = {"model": "residual", "backend": backend, "optimiser": optimiser, "lr": 0.01}
    train(tmp_path / "whole", **given)
    for stop in (1, 7, 13):
        train(tmp_path / str(stop), until=stop, **given)
        train(tmp_path / str(stop), resume=True, **given)
        assert result(tmp_path / str(stop)) == result(tmp_path / "whole")
