"""What TensorBoard reads of a run: every number of its logs, once, whatever interrupted it."""

import sys

import numpy as np
import pytest
from tiny_run import result, tiny_config, tiny_task, train

from minidl.train import RunError, Trainer, checkpoint
from minidl.train.__main__ import main
from minidl.train.record import read_losses, read_metrics

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture
def read():
    """Return what reads a folder as TensorBoard does: {tag: [(update, value), ...]}."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(folder):
        events = EventAccumulator(str(folder)).Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    return read


def logged(run):
    """Return what a run's own logs have under some of the tags."""
    losses, metrics = read_losses(run / "losses.jsonl"), read_metrics(run / "metrics.jsonl")
    return {
        "loss/train": [(line["step"], line["train_loss"]) for line in losses],
        "lr": [(line["step"], line["lr"]) for line in losses],
        "loss/test": [(line["step"], line["test_loss"]) for line in metrics],
        "error/test": [(line["step"], line["test_error"]) for line in metrics],
        "error_of/odd": [(line["step"], line["test_errors"]["odd"]) for line in metrics],
        "gates/2/entropy": [(line["step"], line["gates"]["2"]["entropy"]) for line in metrics],
    }


def assert_same(found, run):
    for tag, points in logged(run).items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        assert [value for _, value in found[tag]] == [np.float32(value) for _, value in points], tag


def test_every_number_of_the_logs_is_there_and_the_run_is_the_same(tmp_path, read, uninterrupted):
    train(tmp_path / "run", tensorboard=tmp_path / "board")
    assert_same(read(tmp_path / "board" / "run"), tmp_path / "run")
    assert result(tmp_path / "run")[1] == uninterrupted[1]


def test_modes_that_are_found_are_there(tmp_path, read):
    train(tmp_path / "run", tensorboard=tmp_path / "board", modes="auto", max_modes=3, optimiser="sgd")
    found = read(tmp_path / "board" / "run")["modes/2"]
    assert found == [
        (line["step"], float(line["modes"]["2"])) for line in read_metrics(tmp_path / "run" / "metrics.jsonl")
    ]


@pytest.mark.parametrize("stop", [1, 5, 9])
def test_a_resumed_run_goes_on(tmp_path, read, stop):
    train(tmp_path / "run", until=stop, tensorboard=tmp_path / "board")
    train(tmp_path / "run", resume=True, tensorboard=tmp_path / "board")
    assert_same(read(tmp_path / "board" / "run"), tmp_path / "run")


def test_updates_that_a_killed_process_had_written_after_its_checkpoint_are_there_once(tmp_path, read, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    train(tmp_path / "run", until=8, tensorboard=tmp_path / "board")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", die)  # of update 12
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", resume=True, tensorboard=tmp_path / "board")
    assert read(tmp_path / "board" / "run")["error/test"][-1][0] == 10
    train(tmp_path / "run", resume=True, tensorboard=tmp_path / "board")
    assert_same(read(tmp_path / "board" / "run"), tmp_path / "run")


def test_a_run_remembers_where_its_events_go(tmp_path, read, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["lenet", "mnist", "--sample", "--batch-size", "8", "--norm", "none", "--quiet", "--out", "run"]
    assert main([*command, "--updates", "2", "--eval-every", "1", "--tensorboard", "board"]) == 0
    assert_steps(read(tmp_path / "board" / "run"), [1, 2])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["--out", "../run", "--resume", "--quiet"]) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


def assert_steps(found, steps):
    assert [step for step, _ in found["loss/train"]] == [step for step, _ in found["error/test"]] == steps


def test_without_the_package_there_is_one_line_with_the_cure_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        RunError, match=r"needs the package tensorboard \(.*\); pip install 'minidl\[tensorboard\]', or"
    ):
        train(tmp_path / "run", tensorboard=tmp_path / "board")
    assert list(tmp_path.iterdir()) == []


def test_events_that_cannot_be_written_cost_a_warning_and_not_the_run(tmp_path, capsys, uninterrupted):
    pytest.importorskip("tensorboard")
    (tmp_path / "board").write_text("no folder")
    trainer = Trainer(tiny_config(tensorboard=tmp_path / "board"), tmp_path / "run", quiet=True, task=tiny_task())
    assert trainer.run()["status"] == "finished"
    assert "takes no more events" in capsys.readouterr().err
    assert result(tmp_path / "run")[1] == uninterrupted[1]
