"""Training: what a run does, and that it repeats and resumes bit for bit."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_run import BATCHES, TOTAL, result, tiny_config, tiny_task, train

from minidl.optim import SGD
from minidl.train import ConfigError, DivergedError, RunError, Trainer, checkpoint
from minidl.train.loss_log import usual_interval
from minidl.train.record import read_losses

pytestmark = pytest.mark.usefixtures("no_curves")


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_one_configuration_gives_the_same_bytes_for_any_number_of_threads(tmp_path):
    for name, threads in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / name, threads=threads, data_dir=name)
    assert result(tmp_path / "a") == result(tmp_path / "b") == result(tmp_path / "c")


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"lr": 0.06}, {"augment": "none"}, {"modes": 2}, {"dtype": "float64"}]
)
def test_another_configuration_gives_other_bytes(tmp_path, uninterrupted, changes):
    train(tmp_path / "other", **changes)
    assert result(tmp_path / "other")[0] != uninterrupted[0]
    assert result(tmp_path / "other")[1] != uninterrupted[1]


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
    first, second = (json.loads((tmp_path / name / "summary.json").read_text()) for name in "ab")
    for name in ("status", "step", "best", "parameters", "machine"):
        assert json.dumps(first[name]) == json.dumps(second[name])


def test_the_log_has_each_step_once_although_the_process_died_between_log_and_checkpoint(
    tmp_path, uninterrupted, monkeypatch
):
    def die(*args):
        raise KeyboardInterrupt

    train(tmp_path / "run", until=8)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", resume=True)
    assert [line["step"] for line in lines(tmp_path / "run")] == [5, 10]
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "ep')  # and while it wrote a line
    train(tmp_path / "run", resume=True)
    assert [line["step"] for line in lines(tmp_path / "run")] == [5, 10, 14]
    assert result(tmp_path / "run") == uninterrupted


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, uninterrupted, capsys):
    train(tmp_path / "run", until=10)
    paths = checkpoint.list_steps(tmp_path / "run" / "checkpoints")
    assert [path.name for path in paths] == ["step-000000008.safetensors", "step-000000010.safetensors"]
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    train(tmp_path / "run", resume=True)
    assert f"{paths[1]} is damaged: its checksum differs" in capsys.readouterr().err
    assert result(tmp_path / "run") == uninterrupted


def test_a_run_that_died_before_its_first_checkpoint_starts_from_the_beginning(tmp_path, uninterrupted):
    Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_resuming_a_finished_run_changes_nothing(tmp_path, uninterrupted):
    train(tmp_path / "run")
    summary = train(tmp_path / "run", resume=True).run()
    assert summary["status"] == "finished"
    assert result(tmp_path / "run") == uninterrupted


def test_metrics_hold_the_evaluations_and_the_best_has_the_lowest_test_error(tmp_path):
    trainer = train(tmp_path / "run")
    assert lines(tmp_path / "run") == json.loads(json.dumps(trainer.history))
    assert [line["step"] for line in trainer.history] == [5, 10, 14]
    assert [line["touches"] for line in trainer.history] == [20, 40, 56]
    assert [line["epoch"] for line in trainer.history] == [5 / 6, 10 / 6, 14 / 6]
    assert trainer.best["test_error"] == min(line["test_error"] for line in trainer.history)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
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
    assert last["test_error"] == pytest.approx(100 * wrong.mean())
    even, odd = (100 * wrong[source == index].mean() for index in (0, 1))
    assert last["test_errors"] == pytest.approx({"even": even, "odd": odd})
    assert last["test_loss"] == pytest.approx(-np.log(p[np.arange(11), labels]).mean(), rel=1e-5)
    norm = trainer.model.layers[2]
    assert last["gates"]["2"]["usage"] == pytest.approx(norm.gates.mean(axis=0), rel=1e-5)


def test_the_training_loss_is_the_mean_over_the_updates_since_the_last_evaluation(monkeypatch):
    trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
    forward, losses = trainer._criterion.forward, []

    def spy(logits, labels):
        losses.append(float(forward(logits, labels)))
        return np.float32(losses[-1])

    monkeypatch.setattr(trainer._criterion, "forward", spy)
    trainer.run()
    expected = [np.mean(losses[:5]), np.mean(losses[5:10]), np.mean(losses[10:])]
    assert [line["train_loss"] for line in trainer.history] == pytest.approx(expected, rel=1e-6)


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
    assert [line["train_loss"] for line in found] == pytest.approx(expected, rel=1e-6)
    assert [line["lr"] for line in found] == pytest.approx([0.05, 0.025, 0.025, 0.0125, 0.0125])
    assert [line["epoch"] for line in found] == [line["step"] / BATCHES for line in found]


def test_a_short_run_logs_each_update_and_a_long_one_every_50(tmp_path):
    train(tmp_path / "run", log_every=None)
    assert [line["step"] for line in read_losses(tmp_path / "run" / "losses.jsonl")] == [*range(1, TOTAL + 1)]
    assert [usual_interval(total) for total in (1, 399, 400, 9999, 10**6)] == [1, 1, 2, 49, 50]


def test_lines_of_the_loss_log_after_the_checkpoint_are_written_again(tmp_path, uninterrupted):
    train(tmp_path / "run", until=8)
    path = tmp_path / "run" / "losses.jsonl"
    with path.open("a") as file:  # the process trained on, and was killed before the next checkpoint
        file.write('{"step": 9, "epoch": 1.5, "touches": 36, "lr": 0.025, "train_loss": 7.0}\n{"step": 12, "ep')
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_a_run_whose_loss_log_is_gone_goes_on_with_a_new_one(tmp_path):
    train(tmp_path / "run", until=8)
    (tmp_path / "run" / "losses.jsonl").unlink()
    train(tmp_path / "run", resume=True)
    assert [line["step"] for line in read_losses(tmp_path / "run" / "losses.jsonl")] == [9, 12, 14]


def test_the_rate_drops_after_the_touches_and_updates_asked_for(monkeypatch):
    rates = []
    step = SGD.step
    monkeypatch.setattr(SGD, "step", lambda self: (rates.append(self.lr), step(self)))
    train(None)
    expected = [0.05] * 5 + [0.025] * 4 + [0.0125] * 5  # 20 touches are 5 updates
    assert rates == pytest.approx(expected)


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


def test_a_loss_that_is_not_finite_stops_the_run_at_its_update_and_keeps_the_checkpoint_before(tmp_path):
    trainer = train(tmp_path / "run", until=7)
    trainer.model.layers[-1].params["bias"][1] = np.inf
    with pytest.raises(
        DivergedError, match=r"nan at update 8 \(lr 0.025\), first in bias of layer 6 \(Linear\); lower --lr"
    ):
        trainer.run()
    kept = checkpoint.list_steps(tmp_path / "run" / "checkpoints")
    assert [path.name for path in kept] == ["step-000000004.safetensors", "step-000000007.safetensors"]
    assert train(tmp_path / "run", resume=True).step == TOTAL


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    trainer = train(tmp_path / "run", until=3)
    trainer.model.layers[-1].params["bias"][1] = np.inf
    trainer.step = 4
    with pytest.raises(DivergedError, match=r"model.6.bias is not finite after update 4; lower --lr"):
        trainer.save()
    assert [path.name for path in checkpoint.list_steps(tmp_path / "run" / "checkpoints")] == [
        "step-000000003.safetensors"
    ]


def test_resuming_with_other_pixels_is_refused(tmp_path):
    task = tiny_task()
    train(tmp_path / "run", until=2, task=task)
    for part in ("train", "test"):
        images = getattr(task, part).images.copy()
        images[7, 1, 30, 2] ^= 1
        other = replace(task, **{part: replace(getattr(task, part), images=images)})
        with pytest.raises(RunError, match=rf"holds another run: .*{part}_sha256 '.{{64}}' there, '.{{64}}' asked"):
            train(tmp_path / "run", resume=True, task=other)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"lr": 0.07}, "lr 0.05 there, 0.07 asked"),
        ({"modes": 4, "seed": 2}, "modes 3 there, 4 asked; seed 0 there, 2 asked"),
        ({"lr_drops": ()}, r"lr_drops \['20', '9u'\] there, \[\] asked"),
        (
            {"task": tiny_task(seed=1)},
            "train_images {.*} there, {.*} asked; data_sha256 '.{64}' there, '.{64}' asked; "
            "train_sha256 '.{64}' there, '.{64}' asked; test_sha256 '.{64}' there, '.{64}' asked",
        ),
    ],
    ids=str,
)
def test_resuming_with_another_configuration_is_refused_with_the_difference(tmp_path, changes, difference):
    train(tmp_path / "run", until=2)
    before = result(tmp_path / "run") if (tmp_path / "run" / "metrics.jsonl").exists() else None
    with pytest.raises(
        RunError, match=f"holds another run: {difference}. Leave those settings out, or give another --out"
    ):
        train(tmp_path / "run", resume=True, **changes)
    assert before is None or result(tmp_path / "run") == before


def test_checkpoints_of_another_run_are_refused(tmp_path):
    train(tmp_path / "a", until=4)
    train(tmp_path / "b", until=4, lr=0.06)
    (tmp_path / "a" / "checkpoints").rename(tmp_path / "gone")
    (tmp_path / "b" / "checkpoints").rename(tmp_path / "a" / "checkpoints")
    with pytest.raises(
        RunError, match=r"a/checkpoints belongs to another run than .*a/config.json; give another --out"
    ):
        train(tmp_path / "a", resume=True)


def test_a_folder_that_holds_a_run_is_not_written_to_again(tmp_path):
    train(tmp_path / "run", until=2)
    with pytest.raises(
        RunError, match=r"run already holds a run; --resume continues it, another --out starts a new one"
    ):
        train(tmp_path / "run")


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(RunError, match=r"run holds no run to resume; leave out --resume to start one"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", '{"config": {'), ("config.json", '{"config": {"x": 1}}')]
)
def test_a_damaged_configuration_is_named(tmp_path, name, content):
    train(tmp_path / "run", until=2)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(RunError, match=r"config.json is damaged \(.*\); start again with another --out"):
        train(tmp_path / "run", resume=True)


def test_a_damaged_log_is_named_by_line(tmp_path):
    train(tmp_path / "run", until=10)
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_text(path.read_text().replace('{"step": 10', '"step": 10'))
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged in line 2; mend or remove that line"):
        train(tmp_path / "run", resume=True)


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(
        ConfigError, match=r"--batch-size must be at most 26, the training images found, got 27; lower it"
    ):
        train(None, batch_size=27)


def test_a_network_that_refuses_its_arguments_is_a_wrong_configuration():
    with pytest.raises(ConfigError, match=r"GroupNorm.*num_groups"):
        train(None, norm="gn", groups=3)
