"""Running statistics: what is stored, when it changes, and that inference uses it."""

import numpy as np
import pytest
from layer_cases import NORMS
from layer_runs import EACH_LIBRARY, draw, host, run
from tolerance import assert_close, rounding, terms

from minidl import BatchNorm, ModeNorm, reference, to_device, to_host

MOMENTUM = 0.3
pytestmark = EACH_LIBRARY
WITH_STATISTICS = [name for name, case in NORMS.items() if case.in_eval]


def wanted_after(name, layer, batches):
    """Return the buffers that the reference reaches from the layer's, batch by batch."""
    state = layer.state()
    for x in batches:
        if name.startswith("ModeNorm"):
            keys = ("running_mean", "running_mean_square")
            gate = state["gate.weight"], state["gate.bias"]
            new = reference.mode_norm_running(x, *gate, *(state[key] for key in keys), MOMENTUM)
        elif layer.running == "second_moment":
            keys = ("running_mean", "running_mean_square")
            new = reference.batch_norm_running_moments(x, *(state[key] for key in keys), MOMENTUM)
        else:
            keys = ("running_mean", "running_var")
            new = reference.batch_norm_running(x, *(state[key] for key in keys), MOMENTUM, layer.running)
        state |= dict(zip(keys, new, strict=True))
    return {key: state[key] for key in layer.buffers}


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_after_three_batches_the_running_statistics_are_the_reference(name):
    case = NORMS[name]
    layer = case.layer()
    batches = [draw(20 + i, *case.shape, mean=i - 0.5, std=1 + 0.7 * i) for i in range(3)]
    want = wanted_after(name, layer, batches)
    allowed = rounding(lambda **xs: wanted_after(name, layer, xs.values()), {str(i): x for i, x in enumerate(batches)})
    for x in batches:
        y, _ = run(layer, x, draw(9, *case.shape))
        y += 100  # what the user does to y is no part of them
    assert layer.buffers.keys() == want.keys()
    for key, buffer in layer.buffers.items():
        assert_close(to_host(buffer), want[key], allowed[key], key)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_inference_after_three_batches_is_the_reference(name):
    case = NORMS[name]
    layer = case.layer()
    for i in range(3):
        layer(to_device(draw(20 + i, *case.shape, mean=i - 0.5)))
    x, dy = case.arrays()
    layer.eval()
    want_y, want = case.wanted(layer, x, dy)
    y, grads = run(layer, x, dy)
    allowed = case.tolerances(layer, x, dy)
    assert_close(y, want_y, allowed["y"], "y")
    for key in want:
        assert_close(grads[key], want[key], allowed[key], key)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_backward_leaves_the_running_statistics(name):
    case = NORMS[name]
    layer, (x, dy) = case.layer(), case.arrays()
    layer(to_device(x))
    before = {key: host(buffer) for key, buffer in layer.buffers.items()}
    layer.backward(to_device(dy))
    for key, buffer in layer.buffers.items():
        np.testing.assert_array_equal(to_host(buffer), before[key])


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_momentum_is_the_weight_of_the_new_batch(name):
    case = NORMS[name]
    x, other = to_device(draw(1, *case.shape)), to_device(draw(2, *case.shape, mean=-2.0))
    kept, taken, fresh = case.layer(), case.layer(), case.layer()
    kept.momentum, taken.momentum, fresh.momentum = 0.0, 1.0, 1.0
    before = kept.state()
    kept(x)
    for key, buffer in kept.buffers.items():
        np.testing.assert_array_equal(to_host(buffer), before[key])
    taken(other)
    taken(x)
    fresh(x)
    for key in fresh.buffers:
        want = to_host(fresh.buffers[key])
        assert_close(to_host(taken.buffers[key]), want, terms(2, want), key)


@pytest.mark.parametrize("running", ["unbiased", "biased", "second_moment"])
@pytest.mark.parametrize("modes", [0, 3])
def test_evaluation_before_training_is_the_identity(running, modes):
    eps = 1e-12
    layer = ModeNorm(4, modes, eps=eps) if modes else BatchNorm(4, eps=eps, running=running)
    x = draw(1, 3, 4, 5, 7)
    assert_close(to_host(layer.eval()(to_device(x))), x / np.sqrt(1 + eps), terms(16, np.abs(x).max()))


@pytest.mark.parametrize("name", ["BatchNorm, second moment", "ModeNorm"])
def test_a_running_second_moment_below_the_squared_mean_is_a_variance_of_zero(name):
    case = NORMS[name]
    layer, (x, dy) = case.layer(training=False), case.arrays()
    layer.buffers["running_mean"][...] = 3.0
    layer.buffers["running_mean_square"][...] = 9.0 - 1e-3
    want_y, want = case.wanted(layer, x, dy)
    y, grads = run(layer, x, dy)
    allowed = case.tolerances(layer, x, dy)
    assert_close(y, want_y, allowed["y"], "y")
    assert_close(grads["dx"], want["dx"], allowed["dx"], "dx")
    plain = case.layer(training=False)
    for key, value in {"running_mean": 3.0, "running_mean_square": 9.0}.items():
        plain.buffers[key][...] = value
    assert_close(y, to_host(plain(to_device(x))), allowed["y"], "y")


@pytest.mark.parametrize("name", [name for name in NORMS if name not in WITH_STATISTICS])
def test_norms_of_one_sample_keep_nothing_and_do_the_same_in_both_modes(name):
    case = NORMS[name]
    x, dy = case.arrays()
    assert not case.layer().buffers
    y, grads = run(case.layer(training=True), x, dy)
    eval_y, eval_grads = run(case.layer(training=False), x, dy)
    np.testing.assert_array_equal(y, eval_y)
    for key in grads:
        np.testing.assert_array_equal(grads[key], eval_grads[key])
