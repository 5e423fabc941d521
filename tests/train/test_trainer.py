"""Training: what a run does, and that it repeats and resumes bit for bit."""

import itertools
import json

import numpy as np
import pytest
from tiny_run import BATCHES, TOTAL, tiny_config, tiny_task, train
from tolerance import assert_close, terms

from minidl.optim import SGD
from minidl.train import ConfigError, Trainer
from minidl.train.loss_log import usual_interval
from minidl.train.record import read_losses

pytestmark = pytest.mark.usefixtures("no_curves")


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_metrics_hold_the_evaluations_and_the_best_has_the_lowest_test_error(tmp_path):
    trainer = train(tmp_path / "run")
    assert lines(tmp_path / "run") == json.loads(json.dumps(trainer.history))
    assert [line["step"] for line in trainer.history] == [5, 10, 14]
    assert [line["touches"] for line in trainer.history] == [20, 40, 56]
    assert [line["epoch"] for line in trainer.history] == [5 / 6, 10 / 6, 14 / 6]
    assert trainer.best["test_error"] == min(line["test_error"] for line in trainer.history)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))
    assert summary["last"] == lines(tmp_path / "run")[-1]
    assert summary["best"]["step"] == trainer.best["step"]


@pytest.mark.parametrize(("errors", "step"), [([30, 20, 25], 10), ([20, 20, 25], 5), ([30, 20, 10], 14)])
def test_the_best_is_the_first_evaluation_with_the_lowest_test_error(monkeypatch, errors, step):
    scripted = iter([{"test_error": error, "test_errors": {}} for error in errors])
    monkeypatch.setattr("minidl.train.trainer.evaluate", lambda *args, **options: next(scripted))
    assert train(None).best["step"] == step


def test_the_evaluation_is_the_error_of_the_model_on_the_whole_test_set(tmp_path):
    task = tiny_task()
    trainer = train(tmp_path / "run", task=task)
    ((x, labels, source),) = trainer._test_loader
    logits = trainer.model.eval().forward(x)
    wrong = logits.argmax(axis=1) != labels
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    last = trainer.history[-1]
    assert_close(last["test_error"], 100 * wrong.mean(), terms(4, 100))
    even, odd = (100 * wrong[source == index].mean() for index in (0, 1))
    assert list(last["test_errors"]) == ["even", "odd"]
    assert_close(list(last["test_errors"].values()), [even, odd], terms(4, 100))
    size = np.abs(logits).max() + np.log(4)
    assert_close(last["test_loss"], -np.log(p[np.arange(11), labels]).mean(), terms(16, size, "float32"))
    norm = trainer.model.layers[2]
    assert_close(last["gates"]["2"]["usage"], norm.gates.mean(axis=0), terms(16, 1, norm.gates.dtype))


def test_the_training_loss_is_the_mean_over_the_updates_since_the_last_evaluation(monkeypatch):
    trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
    forward, losses = trainer._criterion.forward, []

    def spy(logits, labels):
        losses.append(float(forward(logits, labels)))
        return np.float32(losses[-1])

    monkeypatch.setattr(trainer._criterion, "forward", spy)
    trainer.run()
    expected = [np.mean(losses[:5]), np.mean(losses[5:10]), np.mean(losses[10:])]
    assert_close([line["train_loss"] for line in trainer.history], expected, terms(8, max(losses), "float32"))


def test_the_loss_log_has_the_mean_over_each_interval_and_the_last_update_ends_it(tmp_path, monkeypatch):
    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    forward, losses = trainer._criterion.forward, []

    def spy(logits, labels):
        losses.append(float(forward(logits, labels)))
        return np.float32(losses[-1])

    monkeypatch.setattr(trainer._criterion, "forward", spy)
    trainer.run()
    found = read_losses(tmp_path / "run" / "losses.jsonl")
    assert [line["step"] for line in found] == [3, 6, 9, 12, 14]
    expected = [np.mean(losses[start : start + 3]) for start in range(0, TOTAL, 3)]
    assert_close([line["train_loss"] for line in found], expected, terms(8, max(losses), "float32"))
    assert [line["lr"] for line in found] == [0.05, 0.025, 0.025, 0.0125, 0.0125]
    assert [line["epoch"] for line in found] == [line["step"] / BATCHES for line in found]


def test_a_short_run_logs_each_update_and_a_long_one_every_50(tmp_path):
    train(tmp_path / "run", log_every=None)
    assert [line["step"] for line in read_losses(tmp_path / "run" / "losses.jsonl")] == [*range(1, TOTAL + 1)]
    assert [usual_interval(total) for total in (1, 399, 400, 9999, 10**6)] == [1, 1, 2, 49, 50]


def test_a_run_whose_loss_log_is_gone_goes_on_with_a_new_one_and_says_so(tmp_path, capsys):
    train(tmp_path / "run", until=8)
    path = tmp_path / "run" / "losses.jsonl"
    path.unlink()
    train(tmp_path / "run", resume=True, until=10)
    assert capsys.readouterr().err == f"minidl.train: {path} is gone, with the losses to update 8: begun anew\n"
    train(tmp_path / "run", resume=True)
    assert capsys.readouterr().err == ""
    assert [line["step"] for line in read_losses(tmp_path / "run" / "losses.jsonl")] == [9, 12, 14]


def test_the_rate_drops_after_the_touches_and_updates_asked_for(monkeypatch):
    rates = []
    step = SGD.step
    monkeypatch.setattr(SGD, "step", lambda self: (rates.append(self.lr), step(self)))
    train(None)
    expected = [0.05] * 5 + [0.025] * 4 + [0.0125] * 5  # 20 touches are 5 updates
    assert rates == expected


def test_every_update_sees_a_full_batch_and_an_epoch_each_image_at_most_once():
    trainer = Trainer(tiny_config(length="2e"), quiet=True, task=tiny_task())
    batches = [labels for _, labels, _ in itertools.islice(trainer._batches(), trainer.total)]
    assert trainer.total == 2 * BATCHES
    assert {len(labels) for labels in batches} == {4}


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(None).run()["status"] == "finished"
    assert list(tmp_path.iterdir()) == []


def test_on_evaluation_sees_each_evaluation():
    seen = []
    trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
    trainer.run(on_evaluation=seen.append)
    assert seen == trainer.history


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(
        ConfigError, match=r"--batch-size must be at most 26, the training images found, got 27; lower it"
    ):
        train(None, batch_size=27)


def test_a_network_that_refuses_its_arguments_is_a_wrong_configuration():
    with pytest.raises(ConfigError, match=r"GroupNorm.*num_groups"):
        train(None, norm="gn", groups=3)
