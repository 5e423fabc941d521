"""What is evidence for a cause and what is none: NaN, another cause beside it, one gradient alone."""

from collections.abc import Mapping

import numpy as np
import pytest
from batch_norm_by_hand import Bn, named, run

from minidl import check
from minidl.check.adapters.reference import Adapter
from minidl.check.diagnosis.evidence import Hypothesis
from minidl.check.diagnosis.weighing import credible
from minidl.check.variants import known_wrong


def hypothesis(layer, name, **said):
    return Hypothesis(next(v for v in known_wrong(layer) if v.name == name), "formula", **said)


def tensors(count, *names):
    return {(i, name) for i in range(count) for name in names}


def test_that_y_ends_in_nan_as_a_variants_does_is_no_evidence_unless_the_gradients_do_too():
    y, gradients = tensors(4, "out.y.0"), tensors(4, "out.dx.0", "out.dweight.0")
    alone = hypothesis("batch_norm", "eps missing", hits=set(y), ended=set(range(4)))
    assert not credible(alone, y | gradients)
    with_gradients = hypothesis("batch_norm", "eps missing", hits=y | gradients, ended=set(range(4)))
    assert credible(with_gradients, y | gradients)
    finite = hypothesis("batch_norm", "eps missing", hits=set(y), ended={0, 1, 2})
    assert credible(finite, y | gradients)


def test_an_exception_alone_is_evidence_only_where_it_tells_just_the_cases_that_raise():
    raised = tensors(3, "raised")
    assert credible(hypothesis("batch_norm", "eps missing", hits=set(raised)), raised)
    assert not credible(hypothesis("batch_norm", "eps missing", hits=set(raised)), raised | {(7, "raised")})
    assert not credible(hypothesis("batch_norm", "eps missing", hits=set(raised), misses={(7, "out.y.0")}), raised)


def test_what_explains_all_of_training_may_be_wrong_about_the_running_statistics():
    training = tensors(5, "out.y.0", "out.dx.0", "out.dweight.0")
    state = tensors(5, "state.1.running_var")
    wrong = training | state
    assert credible(hypothesis("batch_norm", "eps missing", hits=set(training), misses=set(state)), wrong)
    few = {at for at in training if at[0] < 3}
    assert not credible(hypothesis("batch_norm", "eps missing", hits=few, misses=set(state)), wrong)
    assert not credible(hypothesis("group_norm", "eps missing", hits=set(training), misses=set(state)), wrong)


class ThreeBugs(Bn):
    """The momentum is that of the old value, so that every later evaluation is wrong; two gradients are means."""

    def __init__(self, layer, options):
        super().__init__(layer, {**options, "momentum": 1 - options["momentum"]})

    def backward(self, dy):
        grads, n = super().backward(dy), np.float32(dy.size // dy.shape[1])
        return {**grads, "dweight": grads["dweight"] / n, "dbias": grads["dbias"] / n}


def test_a_third_bug_is_named_beside_two_others():
    names = {"momentum swapped", "dbias is a mean", "dweight is divided by all values of a channel"}
    assert set(named(run(ThreeBugs))) == names


class WeightGradientOfAnother(Bn):
    """All is right but dweight in training, which has eps beside the root."""

    def backward(self, dy):
        grads, eps = super().backward(dy), dy.dtype.type(self.o["eps"])
        wrong = 1 / (np.sqrt(1 / self.r**2 - eps) + eps)
        return {**grads, "dweight": (dy * self.h / self.r * wrong).sum(self.axes)} if self.t else grads


class OneGradientOverwritten(Bn):
    """Gradients add up, as declared, but dweight does not."""

    conventions: Mapping[str, str] = {"running_var": "biased"}

    def load(self, params, state):
        super().load(params, state)
        self.dbias = 0 * params["bias"]

    def backward(self, dy):
        grads = super().backward(dy)
        self.dbias = self.dbias + grads["dbias"]
        return {**grads, "dbias": self.dbias}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (WeightGradientOfAnother, "dweight takes 1/sigma with eps outside the root"),
        (OneGradientOverwritten, "dweight as of: gradients overwritten"),
    ],
)
def test_one_gradient_alone_is_named_after_its_own_formula_or_the_layer_whose_it_would_be(make, name):
    (line,) = run(make).diagnosis
    assert line.startswith(f"{name}: ")


class StatisticsInFloat32(Bn):
    """The running statistics lose the digits of float64; all else is right, so that evaluation follows from them."""

    def forward(self, x, training):
        y = super().forward(x, training)
        self.s = {name: value.astype(np.float32).astype(x.dtype) for name, value in self.s.items()}
        return y


class AllInFloat32(Bn):
    """Everything is computed in float32, the training's y too."""

    def forward(self, x, training):
        return super().forward(x.astype(np.float32).astype(x.dtype), training).astype(np.float32).astype(x.dtype)


@pytest.mark.parametrize(
    ("make", "what"), [(StatisticsInFloat32, "running statistics kept"), (AllInFloat32, "computed")]
)
def test_a_shorter_format_is_said_of_the_statistics_alone_where_no_y_of_training_is_wrong(make, what):
    assert named(run(make, dtype="float64")) == [f"{what} in float32 whatever the dtype"]


class WeightGradientOfAllModes(Adapter):
    """dweight is summed over the modes, of which the cases with an evaluation have two."""

    def backward(self, dy):
        grads = super().backward(dy)
        return {**grads, "dweight": grads["dweight"] * self.options["num_modes"]}


def test_a_gradient_has_one_factor_in_training_and_evaluation_where_one_explains_both():
    report = check.run(WeightGradientOfAllModes, "mode_group_norm")
    steps = {t.name.partition(".")[0] for r in report.results if r.status == "failed" for t in r.failed}
    assert steps == {"out", "eval"}
    assert named(report) == ["dweight is multiplied by the modes"]


class LogSumExp(Adapter):
    """The loss is log sum exp(x) − x at the label, without the largest logit taken out; its gradient has inf / inf."""

    def forward(self, x, training):
        self.x, self.rows, self.labels = x, np.arange(len(x)), self.params["labels"]
        with np.errstate(all="ignore"):
            self.e = np.exp(x)
            return np.asarray((np.log(self.e.sum(1)) - x[self.rows, self.labels]).mean(), x.dtype)

    def backward(self, dy):
        with np.errstate(all="ignore"):
            d = self.e / self.e.sum(1, keepdims=True)
        d[self.rows, self.labels] -= 1
        return {"dx": (d * dy / len(d)).astype(self.x.dtype)}


def test_an_overflow_of_log_sum_exp_is_named_where_y_is_infinite_and_dx_is_nan():
    assert named(check.run(LogSumExp, "softmax_cross_entropy")) == ["log-sum-exp without its shift"]


class NeitherCountNorDy(LogSumExp):
    """Two bugs in dx, which is not divided by the batch size and takes no dy."""

    def forward(self, x, training):
        return super().forward(x - x.max(1, keepdims=True), training)

    def backward(self, dy):
        return super().backward(np.asarray(len(self.x), self.x.dtype))


def test_a_pair_is_looked_for_where_what_is_near_explains_less_than_half():
    assert named(check.run(NeitherCountNorDy, "softmax_cross_entropy")) == ["dx without 1/N + dy ignored"]


def test_a_pair_is_looked_for_where_a_cause_that_was_found_explains_less_than_half():
    pytest.importorskip("torch")
    from heldout.sixth.t_modes import TwoMn  # whose zero dgate.bias a listed variant answers, and nothing else

    assert named(check.run(TwoMn, "mode_norm")) == ["gate bias ignored + momentum swapped"]
