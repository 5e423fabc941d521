"""NCCL itself, with the one rank that one GPU allows: its calls, its streams, and gradients that pass through it."""

import numpy as np
import pytest
from layer_runs import draw, gradients, host, layer_rounding, run
from tolerance import assert_close

from minidl import SGD, BatchNorm, Linear, Sequential, Tanh, to_device, to_host, use_backend
from minidl.backend import why_no_cupy
from minidl.distributed import Communicator
from minidl.distributed.gradients import GradientSums
from minidl.distributed.nccl import NCCLCommunicator, why_no_nccl
from minidl.distributed.synchronise import synchronise

pytestmark = pytest.mark.gpu


@pytest.fixture
def one():
    """A communicator over NCCL whose only rank this process is."""
    if reason := why_no_cupy():
        pytest.skip(reason)
    with use_backend("cupy"):
        if reason := why_no_nccl(1):
            pytest.skip(reason)
        yield NCCLCommunicator(Communicator())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sum_over_one_rank_is_what_it_sends_once_it_is_computed(one, dtype):
    import cupy

    rows = [cupy.full(1 << 22, 1.0, dtype) for _ in range(4)]
    for row in rows:
        for _ in range(20):
            row += 1  # still at work when the sum is asked for
    pending = [one.start_total(row) for row in rows]
    for each in pending:
        each.wait()
    assert [float((row * 2).sum() / row.size) for row in rows] == [42.0] * 4


def test_what_one_rank_gathers_and_totals_is_its_own(one):
    count, row = one.each(3, to_device(np.arange(4.0)))
    assert to_host(count).tolist() == [3]
    assert to_host(row).tolist() == [[0, 1, 2, 3]]
    (total,) = one.total(to_device(np.arange(4.0)))
    assert to_host(total).tolist() == [0, 1, 2, 3]


def test_an_update_through_nccl_is_one_without(one):
    x, dy = (draw(seed, 32, 64, mean=0.0, std=1.0).astype(np.float32) for seed in (1, 2))

    def net():
        rng = np.random.default_rng(0)
        return Sequential(*(layer for _ in range(3) for layer in (Linear(64, 64, rng=rng), BatchNorm(64), Tanh())))

    def update(across):
        layers = net()
        sums = GradientSums(layers, SGD(layers, 0.1), across, bucket=1)
        synchronise(layers, across)
        layers.forward(to_device(x))
        sums.begin()
        layers.backward(to_device(dy))
        sums.finish()
        return {name: host(gradient) for name, gradient in gradients(layers).items()}

    with use_backend("numpy"):
        allowed = layer_rounding(net(), x, dy)
    _, want = run(net(), x, dy)
    for name, got in update(one).items():
        assert_close(got, want[name], allowed[name], name)
