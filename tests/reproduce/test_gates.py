"""What the gates of a trained network tell of images and datasets."""

import math

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl.data import load_task
from minidl.parallel import threads
from minidl.reproduce.gates import LayerGates, gates_on_test_set
from minidl.reproduce.store import ReproduceError, Store

SOURCE = np.array([0, 0, 0, 1, 1, 2])


def layer(gates):
    return LayerGates("1", np.array(gates, np.float64), SOURCE, ("a", "b", "c"))


MIXED = layer([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [1.0, 0.0], [0.7, 0.3], [0.45, 0.55]])


def test_means_and_choices_are_those_of_each_dataset():
    assert_close(MIXED.means(), [[0.5, 0.5], [0.85, 0.15], [0.45, 0.55]], terms(4, 1))
    assert_close(MIXED.chosen(), [[1 / 3, 2 / 3], [1, 0], [0, 1]], terms(4, 1))


def test_the_highest_gates_come_first_even_where_they_round_to_1():
    assert list(MIXED.highest(1, 3)) == [0, 1, 5]
    saturated = layer([[1.0, 1e-20], [1.0, 1e-30], [1.0, 1e-18], [0.5, 0.5], [1.0, 1e-40], [0.1, 0.9]])
    assert list(saturated.highest(0, 4)) == [4, 1, 0, 2]


def test_gates_that_do_not_look_at_the_dataset_tell_nothing():
    assert_close(layer([[0.3, 0.7]] * 6).information()[0], 0.0, terms(32, 1))


def test_a_mode_for_each_dataset_tells_all():
    told, entropy = layer(np.eye(3)[SOURCE]).information()
    assert_close(entropy, -(math.log(1 / 2) / 2 + math.log(1 / 3) / 3 + math.log(1 / 6) / 6), terms(32, 1))
    assert_close(told, entropy, terms(32, 1))


def test_information_is_the_sum_worked_by_hand():
    told, _ = layer([[0.9, 0.1]] * 3 + [[0.3, 0.7]] * 3).information()  # p(mode 1) = 0.6
    by_hand = 0.5 * (0.9 * math.log(1.5) + 0.1 * math.log(0.25) + 0.3 * math.log(0.5) + 0.7 * math.log(1.75))
    assert_close(told, by_hand, terms(32, 1))


def test_gates_from_the_checkpoint_are_used_as_the_log_of_the_run_says(trained):
    task = load_task("multitask", sample=True, progress=False)
    run = next(run for run in Store(trained).read().values() if run.config.norm == "mn")
    with threads(1):  # the run's, and its BLAS': with two the last bits differ
        layers = gates_on_test_set(run, task)
    logged = run.result()["last"]["gates"]
    assert [layer.layer for layer in layers] == list(logged)
    for layer in layers:
        assert layer.gates.shape == (len(task.test), 2)
        assert_close(layer.gates.mean(axis=0), logged[layer.layer]["usage"], terms(len(task.test), 1))


def test_a_run_without_its_checkpoint_is_named_with_the_cure(trained):
    run = next(run for run in Store(trained).read().values() if run.config.norm == "mn")
    for file in (run.path / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(ReproduceError, match="has no checkpoint; remove that folder to train the run again"):
        gates_on_test_set(run, load_task("multitask", sample=True, progress=False))
