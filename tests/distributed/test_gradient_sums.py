"""Gradients travel in buckets, each once, as soon as its layers have them."""

import numpy as np
import pytest
from threaded import Ranks

from minidl import SGD, Linear, ReLU, Residual, Sequential
from minidl.distributed import Communicator
from minidl.distributed.communicator import Pending
from minidl.distributed.gradients import GradientSums


def make_net():
    rng = np.random.default_rng(0)
    return Sequential(
        Linear(4, 5, rng=rng, dtype="float64"),
        ReLU(),
        Residual(Linear(5, 5, rng=rng, dtype="float64")),
        Linear(5, 3, rng=rng, dtype="float64"),
    )


class Plain:
    """An optimiser that leaves the gradients where they are."""


def optimiser_of(kind, net):
    return SGD(net, 0.1) if kind == "flat" else Plain()


@pytest.mark.parametrize("kind", ["flat", "plain"])
@pytest.mark.parametrize("bucket", [1, 200, 1 << 20])
def test_every_gradient_is_summed_once(kind, bucket):
    def rank(across):
        net = make_net()
        sums = GradientSums(net, optimiser_of(kind, net), across, bucket)
        found = []
        for step in range(2):
            net.zero_grad()
            x, dy = np.random.default_rng((step, across.rank)).normal(size=(2, 6, 4))
            net.forward(x)
            sums.begin()
            net.backward(dy[:, :3])
            sums.finish()
            found.append(
                {
                    name: g.copy()
                    for path, layer in net.named_layers()
                    for name, g in ((f"{path}.{n}", g) for n, g in layer.grads.items())
                }
            )
        return found

    def alone(step, rank):
        net = make_net()
        x, dy = np.random.default_rng((step, rank)).normal(size=(2, 6, 4))
        net.forward(x)
        net.backward(dy[:, :3])
        return {f"{path}.{n}": g for path, layer in net.named_layers() for n, g in layer.grads.items()}

    ranks = Ranks(3).run(rank)
    for step in range(2):
        for name, first in alone(step, 0).items():
            want = first + alone(step, 1)[name] + alone(step, 2)[name]  # in the order of the ranks: the same bits
            for found in ranks:
                np.testing.assert_array_equal(found[step][name], want)


class Recording(Communicator):
    """Notes when sums start and are waited for."""

    def __init__(self, notes):
        self.notes = notes

    def start_total(self, array):
        self.notes.append(("start", array.size))
        notes = self.notes

        class Noted(Pending):
            def wait(self):
                notes.append(("wait", array.size))

        return Noted()


@pytest.mark.parametrize("kind", ["flat", "plain"])
def test_a_bucket_starts_while_backward_goes_on_and_is_waited_for_at_the_end(kind):
    notes = []
    net = make_net()
    first = net.layers[0]
    backward = first.backward
    vars(first)["backward"] = lambda dy: (notes.append("first layer"), backward(dy))[1]
    sums = GradientSums(net, optimiser_of(kind, net), Recording(notes), bucket=1)
    net.forward(np.ones((2, 4)))
    sums.begin()
    net.backward(np.ones((2, 3)))
    sums.finish()
    sizes = [18, 30, 25]  # last layer first
    waits = [("wait", size) for size in sizes]
    assert notes == [("start", 18), ("start", 30), "first layer", ("start", 25), *waits]


def test_a_layer_that_backward_does_not_reach_is_summed_all_the_same():
    notes = []
    net = make_net()
    unused = net.layers[3]
    sums = GradientSums(net, SGD(net, 0.1), Recording(notes), bucket=1)
    net.layers.pop()
    net.forward(np.ones((2, 4)))
    sums.begin()
    net.backward(np.ones((2, 5)))
    sums.finish()
    assert unused.num_params() == 18
    assert sorted(size for what, size in notes if what == "wait") == [18, 25, 30]


def test_a_backward_outside_an_update_sends_nothing():
    notes = []
    net = make_net()
    GradientSums(net, SGD(net, 0.1), Recording(notes))
    net.forward(np.ones((2, 4)))
    net.backward(np.ones((2, 3)))
    assert notes == []
