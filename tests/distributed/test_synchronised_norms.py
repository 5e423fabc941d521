"""Norms over a batch that lies on several ranks give what they give over the whole batch in one place."""

import copy

import numpy as np
import pytest
from layer_runs import EACH_ENGINE
from threaded import Ranks
from tolerance import assert_close, rounding, terms

from minidl import BatchNorm, GroupNorm, ModeNorm, Sequential
from minidl.backend import to_device, to_host
from minidl.distributed import ALONE
from minidl.distributed.synchronise import synchronise

C = 3
PARTS = (0, 3, 4, 9)  # ranks with 3, 1 and 5 samples
NORMS = {
    "bn unbiased": lambda: BatchNorm(C, dtype="float64"),
    "bn biased": lambda: BatchNorm(C, running="biased", dtype="float64"),
    "bn second moment": lambda: BatchNorm(C, running="second_moment", dtype="float64"),
    "mn 1": lambda: ModeNorm(C, 1, rng=0, dtype="float64"),
    "mn 3": lambda: ModeNorm(C, 3, rng=0, dtype="float64"),
    "mn 3 per-mode affine": lambda: ModeNorm(C, 3, per_mode_affine=True, rng=0, dtype="float64"),
}


def prepared(name):
    """Return a norm with parameters that are not 0 or 1, and gates that tell samples apart."""
    norm, rng = NORMS[name](), np.random.default_rng(5)
    for array in norm.params.values():
        array[...] = to_device(rng.normal(0.5, 1.0, array.shape), like=array)
    return norm


def passed(norm, x, dy):
    """Return what one forward and backward give, on the host."""
    y = norm.forward(to_device(x))
    norm.zero_grad()
    dx = norm.backward(to_device(dy))
    found = {"y": y, "dx": dx, **{f"d{name}": grad for name, grad in norm.grads.items()}, **norm.buffers}
    return {name: np.array(to_host(array)) for name, array in found.items()}


def over_ranks(make, x, dy, edges=PARTS):
    """Return the same of ranks that hold adjacent parts: outputs joined, gradients of parameters summed."""
    from minidl.backend import default_name, use_backend

    backend = default_name()

    def rank(across):
        with use_backend(backend):
            norm = make()
            synchronise(norm, across)
            mine = slice(edges[across.rank], edges[across.rank + 1])
            return passed(norm, x[mine], dy[mine])

    parts = Ranks(len(edges) - 1).run(rank)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in ("y", "dx")}
    joined |= {name: sum(part[name] for part in parts) for name in parts[0] if name.startswith("d") and name != "dx"}
    buffers = [{name: part[name] for name in part if name.startswith("running")} for part in parts]
    for other in buffers[1:]:
        for name, array in other.items():
            np.testing.assert_array_equal(array, buffers[0][name])
    return joined | buffers[0]


@EACH_ENGINE
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("pixels", [(), (4, 5)])
def test_parts_of_a_batch_on_ranks_give_what_the_whole_batch_gives(name, pixels):
    rng = np.random.default_rng(1)
    x = rng.normal(2.0, 3.0, (9, C, *pixels))
    dy = rng.normal(size=x.shape)
    tolerance = rounding(lambda x, dy: passed(prepared(name), x, dy), {"x": x, "dy": dy})
    want, got = passed(prepared(name), x, dy), over_ranks(lambda: prepared(name), x, dy)
    assert got.keys() == want.keys()
    for each in want:
        assert_close(got[each], want[each], tolerance[each], each)


@pytest.mark.parametrize("name", ["bn biased", "mn 3"])
def test_a_mean_far_from_zero_costs_the_joined_variance_nothing(name):
    rng = np.random.default_rng(2)
    x, dy = 1e6 + rng.normal(size=(9, C, 4)), rng.normal(size=(9, C, 4))
    tolerance = rounding(lambda x, dy: passed(prepared(name), x, dy), {"x": x, "dy": dy})
    want, got = passed(prepared(name), x, dy), over_ranks(lambda: prepared(name), x, dy)
    for each in ("y", "dx"):
        assert_close(got[each], want[each], tolerance[each], each)


def test_a_mode_that_no_sample_of_any_rank_takes_is_finite():
    x, dy = np.random.default_rng(3).normal(size=(2, 9, C, 4))
    far = 2000

    def make():
        norm = prepared("mn 3")
        norm.params["gate.bias"][...] = [0, -far, 1]  # its gates underflow to 0
        return norm

    want, got = passed(make(), x, dy), over_ranks(make, x, dy)
    tolerance = rounding(lambda x, dy: passed(make(), x, dy), {"x": x, "dy": dy})
    # Its weights are exp of differences between numbers of this size, of 5 roundings each, in both computations.
    weights = terms(2 * 5, far)
    tolerance["running_mean"] += 0.1 * weights * np.abs(x).max()
    tolerance["running_mean_square"] += 0.1 * weights * (x**2).max()
    for each in want:
        assert np.isfinite(got[each]).all(), each
        assert_close(got[each], want[each], tolerance[each], each)


@pytest.mark.parametrize(
    ("name", "forward", "backward"), [("bn biased", 2 * C + 1, 2 * C + 1), ("mn 3", 3 * (2 * C + 1), 6 * C)]
)
def test_only_small_sums_travel(name, forward, backward):
    x, dy = np.random.default_rng(4).normal(size=(2, 9, C, 32, 32))

    def rank(across):
        norm = prepared(name)
        synchronise(norm, across)
        mine = slice(PARTS[across.rank], PARTS[across.rank + 1])
        norm.forward(x[mine])
        sent = across.messages, across.bytes
        norm.backward(dy[mine])
        return sent, (across.messages - sent[0], across.bytes - sent[1])

    assert Ranks(3).run(rank) == [((1, 8 * forward), (1, 8 * backward))] * 3


def test_inference_and_the_other_norms_send_nothing():
    x = np.random.default_rng(4).normal(size=(2, 3, 8, C, 4))

    def rank(across):
        net = Sequential(GroupNorm(1, C, dtype="float64"), BatchNorm(C, dtype="float64").eval())
        synchronise(net, across)
        net.backward(net.forward(x[0][across.rank]))
        return across.messages

    assert Ranks(3).run(rank) == [0, 0, 0]


def test_a_layer_with_running_statistics_of_its_own_kind_is_refused():
    layer = GroupNorm(1, C)
    layer.buffers["running_mean"] = np.zeros(C)
    with pytest.raises(ValueError, match=r"must derive from BatchStatistics, got 0 \(GroupNorm\)"):
        synchronise(Sequential(layer), ALONE)


def test_gates_that_see_the_batch_in_another_way_are_refused():
    with pytest.raises(ValueError, match="gates must see plain means"):
        synchronise(ModeNorm(C, 2, rng=0, gate_input="normalised"), ALONE)


def test_a_copy_of_a_synchronised_norm_talks_to_the_same_ranks():
    norm = BatchNorm(C)
    synchronise(norm, ALONE)
    assert copy.deepcopy(norm).across is ALONE
    synchronise(norm, None)
    assert norm.across is None
