"""The identities that hold exactly between the norms, as properties of the layers: output and every gradient."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import EACH_LIBRARY, host, run
from tolerance import assert_close

from minidl import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, ModeGroupNorm, ModeNorm, to_device

pytestmark = EACH_LIBRARY
FEW = settings(max_examples=25)
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(st.integers(2, 7), st.integers(1, 5)).flatmap(
    lambda nc: st.sampled_from([nc, (*nc, 3), (*nc, 4, 3), (*nc, 1, 5)])
)
MODES = st.integers(1, 5)
EPS = 1e-3


def batch(seed, shape):
    """Return x and dy."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.7, 2.0, size=shape), rng.normal(size=shape)


def fill(layer, seed):
    """Draw every parameter, none of them 0 or 1."""
    rng = np.random.default_rng([seed, 1])
    for name, p in layer.params.items():
        p[...] = to_device(rng.normal(0.0 if "gate" in name else 1.7, 0.6, size=p.shape))
    return layer


def affine_of(layer, other):
    """Give a layer the weight and bias of another; return it."""
    for name in ("weight", "bias"):
        layer.params[name][...] = other.params[name]
    return layer


def agree(got, want, keys=None):
    """Compare (y, gradients) of two layers; gradients of the gates are compared where both have them."""
    for a, b in [(got[0], want[0]), *((got[1][k], want[1][k]) for k in keys or want[1] if k in got[1])]:
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * max(1.0, np.abs(b).max()))


def mode_norm(seed, shape, modes, **arguments):
    layer = ModeNorm(shape[1], modes, EPS, 0.3, dtype="float64", rng=np.random.default_rng(seed), **arguments)
    return fill(layer, seed)


def mode_group_norm(seed, shape, modes, **arguments):
    layer = ModeGroupNorm(shape[1], modes, EPS, dtype="float64", rng=np.random.default_rng(seed), **arguments)
    return fill(layer, seed)


def batch_norm(channels, running="second_moment"):
    return BatchNorm(channels, EPS, 0.3, running, dtype="float64")


def assert_no_gate_gradients(layer, seed, shape):
    _, grads = run(layer, *batch(seed, shape))
    largest = max(1.0, *(np.abs(g).max() for g in grads.values()))
    for name in ("dgate_weight", "dgate_bias"):
        assert_close(grads[name], np.zeros_like(grads[name]), 1e-11 * largest, name)


# -- MN and BN ---------------------------------------------------------------------------------------------------------


@FEW
@given(SEEDS, SHAPES)
def test_mode_norm_with_one_mode_is_batch_norm(seed, shape):
    x, dy = batch(seed, shape)
    mode = mode_norm(seed, shape, 1)
    agree(run(mode, x, dy), run(affine_of(batch_norm(shape[1]), mode), x, dy))
    assert_no_gate_gradients(mode, seed, shape)


@FEW
@given(SEEDS, SHAPES)
def test_mode_norm_with_one_mode_is_batch_norm_of_the_second_moment_in_inference(seed, shape):
    mode = mode_norm(seed, shape, 1)
    plain = affine_of(batch_norm(shape[1]), mode)
    for step in range(3):
        x, dy = batch(seed + step, shape)
        agree(run(mode, x, dy), run(plain, x, dy))
    for name in ("running_mean", "running_mean_square"):
        np.testing.assert_allclose(host(mode.buffers[name])[0], host(plain.buffers[name]), rtol=1e-12)
    agree(run(mode.eval(), x, dy), run(plain.eval(), x, dy))
    assert_no_gate_gradients(mode, seed, shape)


@FEW
@given(SEEDS, SHAPES)
def test_mode_norm_with_one_mode_is_not_the_usual_batch_norm_in_inference(seed, shape):
    mode = mode_norm(seed, shape, 1)
    plain = batch_norm(shape[1], "biased")
    for step in range(3):
        x = batch(seed + step, shape)[0] + 5 * step
        mode(to_device(x))
        plain(to_device(x))
    running_var = mode.buffers["running_mean_square"] - mode.buffers["running_mean"] ** 2
    assert (running_var > plain.buffers["running_var"]).all()  # it holds the spread of the batch means too


@FEW
@given(SEEDS, SHAPES, MODES)
def test_mode_norm_with_constant_gates_is_batch_norm(seed, shape, modes):
    mode = mode_norm(seed, shape, modes)
    mode.params["gate.weight"][...] = 0  # and any bias
    plain = affine_of(batch_norm(shape[1]), mode)
    for step in range(2):
        x, dy = batch(seed + step, shape)
        # the gates do not differ, but they could: gate.weight has a gradient, which a constant cannot have
        agree(run(mode, x, dy), run(plain, x, dy), keys=("dx", "dweight", "dbias"))
    for name in ("running_mean", "running_mean_square"):
        np.testing.assert_allclose(host(mode.buffers[name]), np.tile(host(plain.buffers[name]), (modes, 1)), rtol=1e-12)
    agree(run(mode.eval(), x, dy), run(plain.eval(), x, dy), keys=("dx", "dweight", "dbias"))


@FEW
@given(SEEDS, st.integers(2, 4), st.integers(2, 5), st.integers(2, 5), st.integers(1, 4))
def test_mode_norm_with_hard_gates_is_batch_norm_of_each_cluster(seed, channels, first, second, pixels):
    rng = np.random.default_rng(seed)
    n = first + second
    x, dy = rng.normal(0.7, 1.0, size=(n, channels, pixels)), rng.normal(size=(n, channels, pixels))
    cluster = rng.permutation(np.arange(n) < first)
    x[:, 0] += np.where(cluster, 50.0, -50.0)[:, None]
    mode = mode_norm(seed, x.shape, 2)
    mode.params["gate.weight"][...] = 0
    mode.params["gate.weight"][:, 0] = to_device(np.array([40.0, -40.0]))
    y, grads = run(mode, x, dy)
    np.testing.assert_array_equal(host(mode.gates), np.stack([cluster, ~cluster], axis=1))
    plain = affine_of(batch_norm(channels), mode)
    totals = {"dweight": 0.0, "dbias": 0.0}
    for members in (cluster, ~cluster):
        want_y, want = run(plain, x[members], dy[members])
        np.testing.assert_allclose(y[members], want_y, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(grads["dx"][members], want["dx"], rtol=1e-8, atol=1e-9)
        totals = {name: total + want[name] for name, total in totals.items()}
    for name, total in totals.items():
        np.testing.assert_allclose(grads[name], total, rtol=1e-9, atol=1e-9)


@FEW
@given(SEEDS, SHAPES, MODES, st.booleans())
def test_an_affine_pair_a_mode_with_equal_rows_is_a_shared_one(seed, shape, modes, training):
    shared = mode_norm(seed, shape, modes)
    for step in range(2):
        shared(to_device(batch(seed + step, shape)[0]))
    mode = mode_norm(seed, shape, modes, per_mode_affine=True)
    state = shared.state()
    for name in ("weight", "bias"):
        state[name] = np.tile(state[name], (modes, 1))
    mode.load_state(state)
    x, dy = batch(seed, shape)
    y, grads = run(mode.train(training), x, dy)
    for name in ("dweight", "dbias"):
        assert grads[name].shape == (modes, shape[1])
        grads[name] = grads[name].sum(axis=0)
    agree((y, grads), run(shared.train(training), x, dy))


# -- MGN, GN, LN and IN ------------------------------------------------------------------------------------------------


@FEW
@given(SEEDS, SHAPES)
def test_mode_group_norm_with_one_mode_is_group_norm_with_one_group_is_layer_norm(seed, shape):
    x, dy = batch(seed, shape)
    mode = mode_group_norm(seed, shape, 1)
    group = affine_of(GroupNorm(1, shape[1], EPS, "float64"), mode)
    layer = affine_of(LayerNorm(shape[1], EPS, "float64"), mode)
    want = run(layer, x, dy)
    agree(run(mode, x, dy), want)
    agree(run(group, x, dy), want)
    assert_no_gate_gradients(mode, seed, shape)


@FEW
@given(SEEDS, SHAPES, MODES)
def test_mode_group_norm_with_constant_gates_is_layer_norm(seed, shape, modes):
    x, dy = batch(seed, shape)
    mode = mode_group_norm(seed, shape, modes)
    mode.params["gate.weight"][...] = 0
    want = run(affine_of(LayerNorm(shape[1], EPS, "float64"), mode), x, dy)
    agree(run(mode, x, dy), want, keys=("dx", "dweight", "dbias"))


@FEW
@given(SEEDS, SHAPES)
def test_group_norm_with_a_group_a_channel_is_instance_norm(seed, shape):
    x, dy = batch(seed, shape)
    group = fill(GroupNorm(shape[1], shape[1], EPS, "float64"), seed)
    agree(run(group, x, dy), run(affine_of(InstanceNorm(shape[1], EPS, "float64"), group), x, dy))


@FEW
@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(2, 4))
def test_group_norm_is_layer_norm_of_each_group(seed, groups, size, pixels):
    x, dy = batch(seed, (4, groups * size, pixels))
    group = fill(GroupNorm(groups, groups * size, EPS, "float64"), seed)
    y, grads = run(group, x, dy)
    for g in range(groups):
        some = slice(g * size, (g + 1) * size)
        layer = LayerNorm(size, EPS, "float64")
        for name in ("weight", "bias"):
            layer.params[name][...] = group.params[name][some]
        want_y, want = run(layer, x[:, some], dy[:, some])
        agree(
            (
                y[:, some],
                {"dx": grads["dx"][:, some], "dweight": grads["dweight"][some], "dbias": grads["dbias"][some]},
            ),
            (want_y, want),
        )


@FEW
@given(SEEDS, st.integers(2, 5), st.integers(1, 5), MODES)
def test_without_pixels_the_two_readings_of_mode_group_norm_are_one(seed, n, c, modes):
    x, dy = batch(seed, (n, c))
    agree(
        run(mode_group_norm(seed, x.shape, modes, moments="pooled"), x, dy),
        run(mode_group_norm(seed, x.shape, modes, moments="spatial"), x, dy),
    )


@FEW
@given(SEEDS, SHAPES)
def test_norms_of_one_sample_do_not_look_at_the_others(seed, shape):
    x, dy = batch(seed, shape)
    for make in (
        lambda: InstanceNorm(shape[1], EPS, "float64"),
        lambda: LayerNorm(shape[1], EPS, "float64"),
        lambda: mode_group_norm(seed, shape, 3),
    ):
        y, grads = run(fill(make(), seed), x, dy)
        one_y, one = run(fill(make(), seed), x[:1], dy[:1])
        np.testing.assert_allclose(y[:1], one_y, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(grads["dx"][:1], one["dx"], rtol=1e-10, atol=1e-12)


# -- symmetries --------------------------------------------------------------------------------------------------------


def gated(seed, shape, modes, kind):
    return {"mn": mode_norm, "mgn": mode_group_norm}[kind](seed, shape, modes)


KINDS = st.sampled_from(["mn", "mgn"])


@FEW
@given(SEEDS, SHAPES, MODES, KINDS, st.booleans())
def test_permuting_the_modes_permutes_their_gradients_and_leaves_the_rest(seed, shape, modes, kind, training):
    x, dy = batch(seed, shape)
    order = np.random.default_rng(seed).permutation(modes)
    layer, other = gated(seed, shape, modes, kind), gated(seed, shape, modes, kind)
    if kind == "mn":
        layer(to_device(batch(seed + 1, shape)[0]))
    state = layer.state()
    other.load_state({name: a[order] if a.ndim == 2 or name == "gate.bias" else a for name, a in state.items()})
    y, want = run(layer.train(training), x, dy)
    for name in ("dgate_weight", "dgate_bias"):
        want[name] = want[name][order]
    agree(run(other.train(training), x, dy), (y, want))


@FEW
@given(SEEDS, SHAPES, MODES, KINDS, st.floats(-300, 300))
def test_a_constant_added_to_all_logits_changes_nothing(seed, shape, modes, kind, constant):
    x, dy = batch(seed, shape)
    layer, other = gated(seed, shape, modes, kind), gated(seed, shape, modes, kind)
    other.params["gate.bias"] += constant
    agree(run(other, x, dy), run(layer, x, dy))


@FEW
@given(SEEDS, SHAPES, MODES, st.sampled_from(["bn", "mn", "mgn"]))
def test_permuting_the_batch_permutes_the_outputs(seed, shape, modes, kind):
    x, dy = batch(seed, shape)
    order = np.random.default_rng(seed).permutation(len(x))

    def make():
        return fill(batch_norm(shape[1]), seed) if kind == "bn" else gated(seed, shape, modes, kind)

    y, want = run(make(), x, dy)
    want["dx"] = want["dx"][order]
    agree(run(make(), x[order], dy[order]), (y[order], want))


@FEW
@given(SEEDS, SHAPES, MODES, st.sampled_from(["bn", "mn", "mgn"]))
def test_repeating_the_batch_repeats_the_outputs_and_doubles_the_parameters_gradients(seed, shape, modes, kind):
    x, dy = batch(seed, shape)

    def make():
        return fill(batch_norm(shape[1]), seed) if kind == "bn" else gated(seed, shape, modes, kind)

    y, grads = run(make(), x, dy)
    twice = {name: np.tile(g, (2,) + (1,) * (x.ndim - 1)) if name == "dx" else 2 * g for name, g in grads.items()}
    layer = make()
    tiled = (2,) + (1,) * (x.ndim - 1)
    agree(run(layer, np.tile(x, tiled), np.tile(dy, tiled)), (np.tile(y, tiled), twice))


@FEW
@given(SEEDS, SHAPES, st.integers(2, 5))
def test_gates_are_probabilities_of_the_spatial_mean(seed, shape, modes):
    x, _ = batch(seed, shape)
    layer = mode_norm(seed, shape, modes)
    layer(to_device(x))
    m = x.reshape(*shape[:2], -1).mean(axis=2)
    z = m @ host(layer.params["gate.weight"]).T + host(layer.params["gate.bias"])
    g = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(host(layer.gates), g, rtol=1e-10)
    per_channel = mode_group_norm(seed, shape, modes)
    per_channel(to_device(x))
    z = m[:, :, None] * host(per_channel.params["gate.weight"])[:, 0] + host(per_channel.params["gate.bias"])
    np.testing.assert_allclose(host(per_channel.gates), np.exp(z) / np.exp(z).sum(axis=2, keepdims=True), rtol=1e-10)


@FEW
@given(SEEDS, SHAPES, MODES)
def test_the_statistics_that_stay_readable_are_those_of_each_mode(seed, shape, modes):
    x, _ = batch(seed, shape)
    layer = mode_norm(seed, shape, modes)
    layer(to_device(x))
    flat, g = x.reshape(*shape[:2], -1), host(layer.gates)
    for k in range(modes):
        w = g[:, k] / g[:, k].sum()
        mu = (w[:, None] * flat.mean(axis=2)).sum(axis=0)
        var = (w[:, None] * ((flat - mu[:, None]) ** 2).mean(axis=2)).sum(axis=0)
        np.testing.assert_allclose(host(layer.mean)[k], mu, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(host(layer.var)[k], var, rtol=1e-9, atol=1e-9)
