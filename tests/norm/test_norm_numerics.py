"""The norms where numbers are extreme: far means, constant channels, empty and lonely modes."""

import numpy as np
import pytest
from layer_cases import NORMS
from layer_runs import EACH_LIBRARY, draw, gate_rounding, host, layer_rounding, run
from tolerance import assert_close, rounding, sums, terms

from minidl import InstanceNorm, ModeGroupNorm, ModeNorm, reference, to_device, to_host

pytestmark = EACH_LIBRARY
FULL = {
    name: NORMS[name] for name in ("BatchNorm", "InstanceNorm", "LayerNorm", "GroupNorm", "ModeNorm", "ModeGroupNorm")
}


def layer_whose_gates_ignore_the_mean(case, dtype):
    """Return the layer of a case with gates that see differences between channels alone."""
    layer = case.layer(dtype)
    if "gate.weight" in layer.params:
        gate = layer.params["gate.weight"]
        if gate.shape[1] > 1:
            gate[...] = to_device([1.0, -1.0] * (gate.shape[1] // 2) * np.arange(1, len(gate) + 1)[:, None])
        else:
            gate[...] = 0  # one channel has no other to differ from
    return layer


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("mean", [0.0, 100.0, -1e4, 1e5])
def test_the_error_in_float32_does_not_grow_with_the_mean(name, mean):
    case = FULL[name]
    x = draw(1, *case.shape, mean=mean, std=1.0).astype(np.float32)
    dy = draw(2, *case.shape, mean=0.0, std=1.0).astype(np.float32)
    layer = layer_whose_gates_ignore_the_mean(case, "float32")
    want_y, want = case.wanted(layer, x.astype(np.longdouble), dy.astype(np.longdouble))
    y, grads = run(layer, x, dy)
    assert_close(y, want_y, terms(16, np.abs(want_y).max(), "float32"), "y")
    assert_close(grads["dx"], want["dx"], terms(24, np.abs(want["dx"]).max(), "float32"), "dx")


@pytest.mark.parametrize("name", FULL)
def test_the_error_in_float64_does_not_grow_with_the_mean(name):
    case = FULL[name]
    x, dy = draw(1, *case.shape, mean=1e8, std=1.0), draw(2, *case.shape, mean=0.0)
    layer = layer_whose_gates_ignore_the_mean(case, "float64")
    want_y, want = case.wanted(layer, x.astype(np.longdouble), dy.astype(np.longdouble))
    y, grads = run(layer, x, dy)
    # the reference's mean is rounded to its own precision; no variance is less than those of all channels
    off, rstd = sums(2 * x.size, 1e8, np.longdouble), 1 / np.sqrt(x.var(axis=(2, 3)).min())
    slope = rstd * np.abs(host(layer.params["weight"])).max()
    # the gates see means of 1e8 that are rounded to float64, and turn by half as much as a logit at most
    gates = host(layer.params["gate.weight"]) if "gate.weight" in layer.params else np.zeros((1, 1))
    turned = 4 * terms(2, 1e8) * np.abs(gates).sum(axis=1).max()  # y and dx go by differences of two modes' values
    assert_close(y, want_y, (terms(16, 1) + turned) * np.abs(want_y).max() + slope * off, "y")
    through = 8 * slope * rstd * np.abs(dy).max() * off  # by xhat, of at most 4, and by the mean of dy · xhat
    assert_close(grads["dx"], want["dx"], (terms(24, 1) + 2 * turned) * np.abs(want["dx"]).max() + through, "dx")


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e6])
@pytest.mark.parametrize("name", FULL)
def test_a_constant_input_gives_the_bias(name, value):
    case = FULL[name]
    layer = layer_whose_gates_ignore_the_mean(case, "float32")
    x = np.full(case.shape, value, np.float32)
    y, grads = run(layer, x, draw(2, *case.shape, mean=0.0).astype(np.float32))
    bias = np.broadcast_to(host(layer.params["bias"]).reshape(1, -1, 1, 1), case.shape)
    assert_close(y, bias, terms(4, np.abs(bias).max(), "float32"), "y")
    assert all(np.isfinite(g).all() for g in grads.values())


@pytest.mark.parametrize("name", FULL)
def test_one_constant_channel_among_others_is_the_reference(name):
    case = FULL[name]
    x, dy = case.arrays()
    x[:, 1] = 3.25
    layer = case.layer()
    want_y, want = case.wanted(layer, x, dy)
    y, grads = run(layer, x, dy)
    allowed = case.tolerances(layer, x, dy)
    assert_close(y, want_y, allowed["y"], "y")
    for key in want:
        assert_close(grads[key], want[key], allowed[key], key)


def test_instance_norm_of_one_value_a_channel_is_the_bias():
    layer = InstanceNorm(4)
    layer.params["bias"][...] = to_device(draw(1, 4))
    dy = draw(3, 3, 4).astype(np.float32)
    y, grads = run(layer, draw(2, 3, 4).astype(np.float32), dy)
    np.testing.assert_array_equal(y, np.tile(host(layer.params["bias"]), (3, 1)))
    slope = np.abs(dy).max() / np.sqrt(layer.eps)  # dx = slope − slope, rounded
    assert_close(grads["dx"], np.zeros_like(dy), terms(8, slope, "float32"), "dx")


def mode_norm(channels, modes, weight, bias, training=True):
    layer = ModeNorm(channels, modes, eps=0.01, rng=np.random.default_rng(0), dtype="float64")
    values = {
        "weight": draw(3, channels, mean=0.8, std=0.5),
        "bias": draw(4, channels, mean=-0.7, std=0.5),
        "gate.weight": np.asarray(weight),
        "gate.bias": np.asarray(bias),
    }
    for name, value in values.items():
        layer.params[name][...] = to_device(value)
    return layer.train(training)


def assert_is_reference(layer, x):
    """Compare y and every gradient; return y and them."""
    dy = draw(2, *x.shape, mean=0.0)
    arguments = {name.replace(".", "_"): host(p) for name, p in layer.params.items()}
    rest = {}
    if isinstance(layer, ModeGroupNorm):
        name = "mode_group_norm"
    elif layer.training:
        name = "mode_norm"
    else:
        name, rest = "mode_norm_eval", {key: host(value) for key, value in layer.buffers.items()}

    def both(dy, x, **arguments):
        forward, backward = getattr(reference, name), getattr(reference, f"{name}_backward")
        return {"y": forward(x, **arguments, eps=0.01)} | backward(dy, x, **arguments, eps=0.01)

    inputs = {"dy": dy, "x": x} | arguments | rest
    want, allowed = both(**inputs), rounding(both, inputs)
    y, grads = run(layer, x, dy)
    slope = np.abs(host(layer.params["weight"])).max() / np.sqrt(0.01)  # of x − mean, of a mode with one value
    remains = gate_rounding(layer, x, y, dy) | {"y": terms(8, np.abs(x).max() * slope)}
    for key, got in ({"y": y} | grads).items():
        assert_close(got, want[key], allowed[key] + remains.get(key, 0.0), key)
    return y, grads


@pytest.mark.parametrize("shape", [(7, 4), (5, 4, 3)])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_an_empty_mode_is_finite_and_changes_nothing(shape, training):
    weight = draw(5, 3, 4, mean=0.0, std=0.7)
    x = draw(1, *shape)
    with_empty = mode_norm(4, 3, weight, [0.3, -0.2, -800.0], training)
    y, grads = assert_is_reference(with_empty, x)
    assert not with_empty.gates[:, 2].any()
    assert np.isfinite(host(with_empty.mean)).all()
    assert np.isfinite(host(with_empty.var)).all()
    without = mode_norm(4, 2, weight[:2], [0.3, -0.2], training)
    dy = draw(2, *x.shape, mean=0.0)
    want_y, want = run(without, x, dy)
    allowed = layer_rounding(without, x, dy)
    assert_close(y, want_y, allowed["y"], "y")
    assert_close(grads["dx"], want["dx"], allowed["dx"], "dx")
    assert all(np.isfinite(host(buffer)).all() for buffer in with_empty.buffers.values())


@pytest.mark.parametrize("gap", [30.0, 800.0, 1e6])
def test_logits_that_differ_by_hundreds_are_finite(gap):
    x = draw(1, 7, 4, 3)
    x[:4, 0] += 3.0
    x[4:, 0] -= 3.0
    weight = np.zeros((2, 4))
    weight[:, 0] = gap / 6, -gap / 6
    layer = mode_norm(4, 2, weight, 0.0)
    assert_is_reference(layer, x)
    assert_is_reference(layer.eval(), x)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_a_mode_that_one_sample_owns_normalises_it_by_itself(shape):
    x = draw(1, *shape)
    x[:, 0] = 0.0
    x[2, 0] = 9.0
    weight = np.zeros((2, 4))
    weight[:, 0] = 100.0, -100.0
    layer = mode_norm(4, 2, weight, [-400.0, 400.0])
    y, _ = assert_is_reference(layer, x)
    np.testing.assert_array_equal(to_host(layer.gates)[:, 0], [0, 0, 1, 0, 0])
    p = {name: host(layer.params[name]).reshape(-1, *(1,) * (len(shape) - 2)) for name in ("weight", "bias")}
    if len(shape) == 2:
        alone = p["bias"]
    else:
        centred = x[2] - x[2].mean(axis=-1, keepdims=True)
        alone = p["weight"] * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 0.01) + p["bias"]
    slope = np.abs(p["weight"]).max() / np.sqrt(0.01)
    assert_close(y[2], alone, layer_rounding(layer, x, np.ones(shape))["y"] + terms(8, 9 * slope), "y of the sample")


@pytest.mark.parametrize("gap", [30.0, 800.0, 1e6])
def test_mode_group_norm_with_saturated_gates_is_finite(gap):
    layer = ModeGroupNorm(5, 3, eps=0.01, rng=np.random.default_rng(0), dtype="float64")
    layer.params["gate.weight"][...] = to_device(np.array([[gap], [0.0], [-gap]]))
    assert_is_reference(layer, draw(1, 4, 5, 3))
    layer.params["gate.bias"][...] = to_device(np.array([0.0, -gap, 0.0]))
    assert_is_reference(layer, draw(1, 4, 5, 3))


@pytest.mark.parametrize("name", ["LayerNorm", "GroupNorm", "InstanceNorm", "ModeGroupNorm"])
def test_an_infinite_value_stays_in_its_sample(name):
    case = NORMS[name]
    x, _ = case.arrays()
    want = to_host(case.layer()(to_device(x)))
    x[1, 2, 3, 4] = np.inf
    with np.errstate(invalid="ignore"):
        y = to_host(case.layer()(to_device(x)))
    np.testing.assert_array_equal(y[[0, 2]], want[[0, 2]])


@pytest.mark.parametrize("name", ["BatchNorm", "ModeNorm"])
def test_statistics_of_a_batch_with_a_nan_are_nan_and_do_not_hide_it(name):
    case = NORMS[name]
    layer, (x, _) = case.layer(), case.arrays()
    x[1, 2, 0, 0] = np.nan
    layer(to_device(x))
    assert np.isnan(host(layer.buffers["running_mean"])[..., 2]).all()
