"""The error in all and per dataset, and the use of the modes, against values worked out by hand."""

import math

import numpy as np
from tolerance import assert_close, terms

from minidl.layers.base import Layer
from minidl.train.evaluate import GateUsage, evaluate


class Gated(Layer):
    """Passes x on and takes gates from a list."""

    def __init__(self, gates):
        super().__init__()
        self.queue = list(gates)
        self.gates = None
        self.modes = []

    def forward(self, x):
        self.gates = self.queue.pop(0)
        self.modes.append(self.training)
        return x


LOGITS = np.eye(3)[[0, 1, 2, 0, 1]] * 4.0
LABELS = np.array([0, 1, 0, 0, 2])  # the third and the fifth are wrong
SOURCE = np.array([0, 2, 2, 0, 0])
BATCHES = [(LOGITS[:2], LABELS[:2], SOURCE[:2]), (LOGITS[2:], LABELS[2:], SOURCE[2:])]
GATES = [np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])]


def test_errors_are_counted_in_all_and_per_dataset():
    result = evaluate(Gated(GATES), BATCHES, ("a", "none of it", "b"))
    assert_close(result["test_error"], 40, terms(4, 40))
    assert list(result["test_errors"]) == ["a", "b"]
    assert_close(list(result["test_errors"].values()), [100 / 3, 50], terms(4, 50))
    right, wrong = math.log(1 + 2 * math.exp(-4)), math.log(2 + math.exp(4))
    assert_close(result["test_loss"], (3 * right + 2 * wrong) / 5, terms(16, wrong))


def test_evaluation_runs_in_eval_mode_and_returns_to_training():
    model = Gated(GATES)
    evaluate(model, BATCHES, ("a", "b", "c"))
    assert model.modes == [False, False]
    assert model.training


def test_a_stopped_evaluation_has_no_result_and_returns_to_training():
    answers = iter([False, True])
    model = Gated(GATES)
    assert evaluate(model, BATCHES, ("a", "b", "c"), stop=lambda: next(answers)) is None
    assert model.modes == [False]
    assert model.training


def test_gate_usage_is_the_mean_gate_with_its_entropy_and_that_of_the_samples():
    gates = evaluate(Gated(GATES), BATCHES, ("a", "b", "c"))["gates"][""]
    assert_close(gates["usage"], [0.6, 0.4], terms(8, 1))
    assert_close(gates["entropy"], -0.6 * math.log(0.6) - 0.4 * math.log(0.4), terms(16, 1))
    assert_close(gates["sample_entropy"], 2 / 5 * math.log(2), terms(16, 1))


def test_gates_of_channels_count_as_samples():
    model = Gated([np.stack([GATES[1], GATES[1][::-1]])])  # (N, C, K)
    usage = GateUsage(model)
    model.forward(None)
    usage.add()
    assert_close(usage.result()[""]["usage"], [0.5, 0.5], terms(8, 1))
    assert_close(usage.result()[""]["sample_entropy"], math.log(2) / 3, terms(16, 1))


def test_the_error_of_the_five_highest_is_that_of_a_sort():
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(60, 9)), rng.integers(0, 9, 60)
    logits[7] = np.nan  # never right
    net = Gated([np.ones((1, 1))] * 6)
    source = np.zeros(60, np.int64)
    parts = [(logits[i : i + 25], labels[i : i + 25], source[i : i + 25]) for i in (0, 25, 50)]
    with np.errstate(invalid="ignore"):
        result = evaluate(net, parts, ("one",), top5=True)
        without = evaluate(net, parts, ("one",))
    highest = np.argsort(-logits, axis=1)[:, :5]
    wrong = [labels[n] not in highest[n] or n == 7 for n in range(60)]
    assert result["test_error_top5"] == 100 * sum(wrong) / 60
    assert 20 < result["test_error_top5"] < 70
    assert "test_error_top5" not in without
