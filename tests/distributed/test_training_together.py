"""A run on several ranks is the run of one process, to rounding."""

import json

import numpy as np
import pytest
from run_rounding import numbers, run_rounding
from threaded import Ranks
from tiny_run import TOTAL, tiny_config, tiny_task
from tolerance import assert_close, rounding

from minidl import Dropout
from minidl.train import ConfigError, DivergedError, Trainer
from minidl.train.record import going_on

UPDATES = 4


def state(trainer):
    return trainer.state.tensors()


def trained(size, out=None, until=UPDATES, resume=False, task=None, model=None, start=None, **changes):
    """Return the trainers of a run on `size` ranks, rank 0's in a folder."""
    config = tiny_config(dtype="float64", **changes)

    def rank(across):
        trainer = Trainer(config, out, resume, True, task or tiny_task(), model, across=across)
        if start:
            trainer.model.load_state(start)
        trainer.run(until)
        return trainer

    return Ranks(size).run(rank)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "changes",
    [{"norm": "none"}, {"norm": "mgn"}, {"norm": "bn", "sync_norm": True}, {"norm": "mn", "sync_norm": True}],
    ids=lambda changes: changes["norm"],
)
def test_ranks_with_parts_of_each_batch_are_one_process_with_all_of_it(size, changes):
    # augmentation, dropout, weight decay and momentum included; with 3 ranks the parts are 1, 1 and 2 images
    (alone,) = trained(1, until=0, **changes)
    start = alone.model.state()
    tolerance = rounding(lambda **start: state(trained(1, start=start, **changes)[0]), start)
    want = state(trained(1, start=start, **changes)[0])
    for trainer in trained(size, **changes):
        for name, array in state(trainer).items():
            assert_close(array, want[name], tolerance[name], name)


@pytest.mark.parametrize("norm", ["bn", "mn", "none"])
def test_all_ranks_hold_the_same_bits_and_the_same_ranks_give_the_same(norm):
    runs = [trained(3, until=None, norm=norm) for _ in range(2)]
    first = state(runs[0][0])
    for trainer in (trainer for run in runs for trainer in run):
        for name, array in state(trainer).items():
            np.testing.assert_array_equal(array, first[name])
        timeless = [
            {k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in trainer.history
        ]
        own = [
            {k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in runs[0][0].history
        ]
        assert timeless == own
        assert trainer.step == TOTAL


def test_without_synchronised_norms_running_statistics_are_the_mean_over_the_ranks():
    def after_one(size):
        trainers = trained(size, until=1, norm="bn", lr=1e-9, augment="none")
        return {name: a for name, a in trainers[0].model.state().items() if "running_mean" in name}

    # the mean over all images, whatever the parts: 1, 1 and 2 images weigh as many
    for name, want in after_one(1).items():
        assert_close(after_one(3)[name], want, 64 * np.finfo(float).eps * np.abs(want).max())


def test_an_evaluation_on_ranks_counts_every_test_image_once():
    changes = {"norm": "mn", "sync_norm": True}
    alone, together = trained(1, until=None, **changes)[0], trained(3, until=None, **changes)[1]
    for a, b in zip(alone.history, together.history, strict=True):
        for name in ("train_error", "test_error", "test_errors"):
            assert a[name] == b[name]
    got, want, allowed = numbers(together), numbers(alone), run_rounding(alone.config, tiny_task())
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert_close(value, want[name], allowed[name], name)
        assert np.abs(want[name]).max() > 100 * allowed[name], f"{name}: a vacuous value"


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_under_another_number_of_ranks(tmp_path, before, after, monkeypatch):
    from minidl.train import plots

    monkeypatch.setattr(plots, "draw_run", lambda *args: None)
    changes = {"norm": "mn", "sync_norm": True}
    trained(before, tmp_path / "run", until=7, **changes)
    trained(after, tmp_path / "run", until=None, resume=True, **changes)
    content = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert content["config"]["ranks"] == before
    assert content["config"]["sync_norm"] is True
    assert content["went_on"] == [{"after_update": 7, "ranks": after}]
    assert going_on(content) == {"backend": "numpy", "ranks": after}
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert steps == [5, 10, 14]


def test_a_run_that_goes_on_with_as_many_ranks_is_the_uninterrupted_one(tmp_path):
    (_, whole) = trained(2, until=None, norm="bn")
    trained(2, tmp_path / "run", until=7, norm="bn")
    (_, later) = trained(2, tmp_path / "run", until=None, resume=True, norm="bn")
    for name, array in state(later).items():
        np.testing.assert_array_equal(array, state(whole)[name])


def test_only_rank_0_writes(tmp_path, capsys):
    first, second = trained(2, tmp_path / "run", until=5)
    assert first.folder is not None
    assert second.folder is None
    assert second.progress.quiet
    assert "rank" not in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_all_ranks_and_the_whole_batch_is_kept(tmp_path):
    errors = []
    task = tiny_task()

    def rank(across):
        trainer = Trainer(tiny_config(norm="bn", sync_norm=True), tmp_path / "run", False, True, task, across=across)
        trainer.run(2)
        if across.rank == 1:  # its part alone
            head = trainer.model.layers[-1]
            forward = head.forward
            vars(head)["forward"] = lambda x: forward(x) * np.float32(np.nan)
        try:
            trainer.run()
        except DivergedError as error:
            errors.append(str(error))
            assert all(getattr(layer, "across", None) is None for _, layer in trainer.model.named_layers())

    Ranks(2).run(rank)
    assert len(errors) == 2
    assert all("update 3" in error for error in errors)
    from safetensors.numpy import load_file

    (dump,) = (tmp_path / "run" / "crash").iterdir()
    assert load_file(dump)["batch.x"].shape[0] == 4


def test_a_batch_smaller_than_the_ranks_is_refused():
    with pytest.raises(ConfigError, match=r"--batch-size must be at least 5, an image for each process, got 4"):
        trained(5)


def test_modes_that_are_found_from_whole_batches_are_refused():
    with pytest.raises(ConfigError, match="--modes auto looks at whole batches, 2 processes share each"):
        trained(2, modes="auto")


def test_another_machines_other_data_is_noticed():
    from minidl.train import RunError

    def rank(across):
        Trainer(tiny_config(), None, False, True, tiny_task(across.rank), across=across)

    with pytest.raises(RunError, match="not that of rank 0"):
        Ranks(2).run(rank)


def test_a_network_of_ones_own_learns_on_ranks_as_alone():
    from minidl import Flatten, Linear, Sequential

    def make(num_classes, rng, dtype):
        return Sequential(Flatten(), Dropout(0.5), Linear(3 * 32 * 32, num_classes, rng=rng, dtype=dtype))

    changes = {"norm": "none", "lr": 0.001}
    (alone,) = trained(1, until=0, model=make, **changes)
    start = alone.model.state()
    tolerance = rounding(lambda **start: state(trained(1, start=start, model=make, **changes)[0]), start)
    want = state(trained(1, start=start, model=make, **changes)[0])
    got = state(trained(2, model=make, **changes)[1])
    for name, array in got.items():
        assert_close(array, want[name], tolerance[name], name)
