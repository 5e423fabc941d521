"""Training on a GPU: numpy's metrics, the same bits twice and after a resumption, and no waiting within a step."""

from dataclasses import replace

import numpy as np
import pytest
from layer_runs import as_float64
from on_a_gpu import ON_A_GPU
from run_rounding import numbers, run_rounding
from tolerance import assert_close, rounding, sums

from minidl import threads, to_host
from minidl.norm import NORMS
from minidl.train import Trainer, recipe
from minidl.train.running import READ_EVERY

pytestmark = ON_A_GPU
CONFIG = replace(recipe(), sample=True, length="40u", eval_every=20, batch_size=32, augment="flip-crop", backend="cupy")

SPIN = r"""
extern "C" __global__ void spin(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles) {}
}
"""


def finished(config, out=None, until=None, resume=False):
    trainer = Trainer(config, out, resume=resume, quiet=True)
    trainer.run(until)
    return trainer


def bits(trainer):
    """Return all that a run's state consists of."""
    state = trainer.model.state() | trainer.optimiser.state()
    return {name: array.tobytes() for name, array in state.items()}


def updates(trainer):
    """Let a trainer do update after update, and nothing else."""
    batches = trainer._batches()
    with trainer._backend(), threads(1):
        while True:
            trainer._update(*next(batches))
            yield


def busy():
    """Keep the GPU busy for about a second; return the event at the end of that."""
    import cupy

    cupy.RawKernel(SPIN, "spin")((1,), (1,), (np.int64(1_500_000_000),))
    end = cupy.cuda.Event(disable_timing=True)
    end.record()
    return end


@pytest.mark.parametrize("norm", ["bn", "mn", "mgn"])
def test_a_run_has_the_metrics_of_numpy_to_rounding(norm):
    config = replace(CONFIG, norm=norm, dtype="float64", length="6u", eval_every=3)
    ours, theirs = finished(config), finished(replace(config, backend="numpy"))
    assert [line["test_errors"] for line in ours.history] == [line["test_errors"] for line in theirs.history]
    got, want, allowed = numbers(ours), numbers(theirs), run_rounding(config)
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert_close(value, want[name], allowed[name], name)


@pytest.mark.parametrize("norm", NORMS)
def test_two_runs_give_the_same_bits(norm):
    first, second = (finished(replace(CONFIG, norm=norm)) for _ in range(2))
    assert bits(first) == bits(second)
    assert first.history[-1]["test_loss"] == second.history[-1]["test_loss"]


@pytest.mark.parametrize("stop", [1, 17, 20])
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(tmp_path, stop):
    whole = finished(replace(CONFIG, norm="mn"))
    finished(replace(CONFIG, norm="mn"), tmp_path / "run", until=stop)
    resumed = finished(replace(CONFIG, norm="mn"), tmp_path / "run", resume=True)
    assert bits(resumed) == bits(whole)


def test_a_run_begun_on_the_gpu_goes_on_with_numpy(tmp_path):
    before = finished(replace(CONFIG, norm="mn"), tmp_path / "run", until=20)
    after = Trainer(replace(CONFIG, norm="mn", backend="numpy"), tmp_path / "run", resume=True, quiet=True)
    assert bits(after) == bits(before)
    assert after.run()["status"] == "finished"


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_returns_while_the_gpu_is_busy_with_something_else(norm):
    step = updates(Trainer(replace(CONFIG, norm=norm, augment="none"), quiet=True))
    for _ in range(READ_EVERY + 2):  # kernels compiled, memory taken, the last reading just past
        next(step)
    end = busy()
    for _ in range(4):  # the driver queues about a thousand launches
        next(step)
    assert not end.done, "the host waited for the GPU within a step"
    end.synchronize()


def test_the_probe_of_the_test_above_notices_a_wait():
    import cupy

    x = cupy.arange(3.0)
    end = busy()
    float(x.sum())
    assert end.done


def test_a_long_run_takes_no_more_memory_than_a_short_one():
    import cupy

    step = updates(Trainer(replace(CONFIG, norm="mn", augment="none"), quiet=True))
    sizes = []
    for count in (2 * READ_EVERY, 6 * READ_EVERY):
        for _ in range(count):
            next(step)
        sizes.append(cupy.get_default_memory_pool().total_bytes())
    assert sizes[0] == sizes[1]


def test_images_keep_the_batch_innermost_through_a_network():
    trainer = Trainer(replace(CONFIG, norm="mn"), quiet=True)
    with trainer._backend():
        x, *_ = next(iter(trainer._loader))
        for layer in trainer.model.layers:
            assert x.transpose(*range(1, x.ndim), 0).flags.c_contiguous, type(layer).__name__
            y = layer.forward(x)
            dx = layer.backward(y)
            if dx is not None and dx.ndim == 4:
                assert dx.transpose(1, 2, 3, 0).flags.c_contiguous, type(layer).__name__
            x = y
            if x.ndim == 2:
                break


def test_the_loaders_batches_are_the_hosts_to_the_last_bit():
    on_gpu, on_host = (Trainer(replace(CONFIG, backend=name), quiet=True) for name in ("cupy", "numpy"))
    ours, theirs = on_gpu._batches(), on_host._batches()
    with on_gpu._backend():
        for _ in range(5):
            for one, other in zip(next(ours), next(theirs), strict=True):
                np.testing.assert_array_equal(to_host(one), other)


def test_pytorchs_captured_step_is_its_eager_step():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA device")
    from minidl.bench import torch_gpu_side as side
    from minidl.bench.cases import batch_of, network
    from minidl.bench.record import Norm

    net = as_float64(network("lenet", Norm("mn", 2), np.random.default_rng(0)))
    x, labels = batch_of(8, np.random.default_rng(1))
    x, start, twins = x.astype("float64"), net.state(), []

    def ended(steps, count):
        for _ in range(count):
            steps.parts["step"]()
        side.synchronize()
        return {name: value.cpu().numpy().copy() for name, value in twins[-1].state_dict().items() if name in start}

    def eager(**state):
        net.load_state(state)
        return ended(side.step(net, x, labels), side.WARM_UP + 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side, "LR", 1e-3)
        make = side.twin
        patch.setattr(side, "twin", lambda net: twins.append(make(net).to(side.DEVICE)) or twins[-1])
        moves, want = rounding(eager, start, trials=4), eager(**start)
        net.load_state(start)
        captured = ended(side.captured_step(net, x, labels), 3)
    for name, value in captured.items():  # the captured step may take other algorithms, whose sums err in another order
        assert_close(value, want[name], moves[name] + sums(2 * x[:, 0].size, np.abs(want[name]).max()), name)
