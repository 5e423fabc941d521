"""Promise 17: what a run holds, and what an update costs, does not grow with the updates, nor with varying shapes.

Measured over 30 000 updates by the campaign `steps.py`; here over some hundred, in bytes and in calls, never in time.
"""

import gc
import itertools
import sys
import tracemalloc

import numpy as np
import pytest
from tiny_run import make_tiny, tiny_config, tiny_task

from minidl import SGD, LeNet, SoftmaxCrossEntropy, memory, norm_factory, threads
from minidl.train import Trainer

BACKENDS = pytest.mark.parametrize("library", ["numpy", "numba"], indirect=True)
UPDATES = 300


def make_lenet(rng):
    return LeNet(4, norm=norm_factory("mn", modes=2), rng=rng)


def make_small(rng):
    return make_tiny(4, 3, norm_factory("mgn", groups=1, modes=2), rng, "float32")


def training(make, shapes):
    """Train on images of these shapes, an update at each `next`."""
    rng = np.random.default_rng(0)
    net = make(rng)
    loss, optimiser = SoftmaxCrossEntropy(), SGD(net, lr=0.001, momentum=0.9)
    for shape in shapes:
        x = rng.random(shape, dtype=np.float32)
        loss.forward(net(x), rng.integers(0, 4, len(x)))
        optimiser.zero_grad()
        net.backward(loss.backward())
        optimiser.step()
        yield


def blocks():
    """Return how many blocks Python has handed out to objects."""
    gc.collect()
    return sys.getallocatedblocks()


def arrays():
    """Return the bytes of the values of all arrays."""
    gc.collect()
    values = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([values]).traces)


def flat(size, advance, updates, growth):
    """Tell if `size` grows by at most `growth` over some `updates`: what each update leaves, each stretch shows."""
    for _ in range(6):
        before = size()
        advance(updates)
        if size() - before <= growth:
            return True
    return False


def assert_flat(advance):
    """Let `advance(n)` do n updates, and see that nothing is kept of each: no block in two of them, and no array.

    Python's free lists and caches fill in the first updates, at a pace of their own, and stop: one of the six stretches
    is without growth, where something that each update leaves shows in all six.
    """
    advance(UPDATES)
    assert flat(blocks, advance, UPDATES, UPDATES // 2)
    tracemalloc.start()
    try:
        advance(UPDATES // 3)
        pool = memory._held
        assert flat(arrays, advance, UPDATES // 3, 0)
        assert memory._held <= pool
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [make_lenet, make_small])
@BACKENDS
def test_an_update_leaves_no_memory_behind(library, make):
    with threads(1):
        steps = training(make, itertools.repeat((5, 3, 32, 32)))
        assert_flat(lambda n: [None for _ in itertools.islice(steps, n)])


@pytest.mark.usefixtures("no_curves")
def test_a_run_holds_no_more_after_many_updates_but_for_its_evaluations(tmp_path):
    config = tiny_config(length="3000u", eval_every=10**6, checkpoint_every=50, log_every=10, lr=0.001)
    trainer = Trainer(config, tmp_path / "run", quiet=True, task=tiny_task())
    assert_flat(lambda n: trainer.run(until=trainer.step + n))


@pytest.mark.parametrize("make", [make_lenet, make_small])
@BACKENDS
def test_an_update_makes_as_many_calls_late_as_early(library, make):
    calls = [0]

    def count(frame, event, argument):
        calls[-1] += event in ("call", "c_call")

    def fewest(steps):
        """Return the fewest calls of twenty updates: now and then the pool sweeps."""
        calls.clear()
        for _ in range(20):
            calls.append(0)
            sys.setprofile(count)
            next(steps)
            sys.setprofile(None)
        return min(calls)

    with threads(1):
        steps = training(make, itertools.repeat((5, 3, 32, 32)))
        for _ in itertools.islice(steps, 20):
            pass
        try:
            early = fewest(steps)
            for _ in itertools.islice(steps, UPDATES):
                pass
            assert fewest(steps) == early > 100
        finally:
            sys.setprofile(None)


@BACKENDS
def test_over_images_of_ever_new_sizes_the_pool_holds_twice_what_the_largest_need(library, monkeypatch):
    empty = {"_FLOOR": 1 << 20, "_pool": {}, "_asked": set(), "_held": 0, "_peak": 0}  # else others' memory counts
    for name, value in empty.items():
        monkeypatch.setattr(memory, name, value)
    rng = np.random.default_rng(1)
    shapes = [(int(n), 3, int(h), int(w)) for n, h, w in rng.integers((2, 40, 40), (9, 160, 160), (150, 3))]
    with threads(1):
        for _ in training(make_small, [(8, 3, 160, 160)] * 3):
            pass
        largest = memory._held
        memory.release()
        held = []
        for _ in training(make_small, shapes):
            held.append(memory._held)
    memory.release()
    assert max(held) <= 2 * largest
    assert memory._held < 1 << 20, "what nobody uses is let go"
