"""The identities that hold exactly between the norms, as properties of the layers: output and every gradient."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runs import EACH_LIBRARY, gate_rounding, host, layer_rounding, run
from tolerance import FACTOR, TRIALS, assert_close, rounding, sums, terms, unit

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


def agree(got, want, allowed, keys=None):
    """Compare (y, gradients) of two layers; gradients of the gates are compared where both have them."""
    assert_close(got[0], want[0], allowed["y"], "y")
    for key in keys or want[1]:
        if key in got[1]:
            assert_close(got[1][key], want[1][key], allowed[key], key)


def both_agree(layer, other, x, dy, keys=None):
    """Compare y and the gradients of two layers, to what rounding may do to the second's."""
    agree(run(layer, x, dy), run(other, x, dy), rounding_of(other, x, dy), keys)


def rounding_of(layer, x, dy):
    """Return `layer_rounding`, and for dx not less than what remains of s·dy − s·dy, s = weight/sqrt(eps) at most."""
    allowed = layer_rounding(layer, x, dy)
    slope = np.abs(host(layer.params["weight"])).max() / np.sqrt(EPS) * np.abs(dy).max()
    return allowed | {"dx": max(allowed["dx"], terms(4, slope))}


def logit_rounding(layer, x, dy, size):
    """Return how far y and each gradient move where every logit rounds by itself, as one does that has a large term.

    A change of all logits of a mode by one number shows little: the gradients of the gates are sums over the samples
    that cancel. So the mean of each channel of each sample is moved, by what moves a logit by two unit roundoffs.
    """
    still, moved, rng = run(layer, x, dy), {}, np.random.default_rng(0)
    step = 2 * unit("float64") * abs(size) / np.abs(host(layer.params["gate.weight"])).max()
    for _ in range(TRIALS):
        each = rng.choice((-1.0, 1.0), (*x.shape[:2], *[1] * (x.ndim - 2)))
        y, gradients = run(layer, x + step * each, dy)
        for name, a, b in [("y", y, still[0]), *((name, a, still[1][name]) for name, a in gradients.items())]:
            moved[name] = max(moved.get(name, 0.0), FACTOR * np.abs(a - b).max())
    return moved


def mode_norm(seed, shape, modes, **arguments):
    layer = ModeNorm(shape[1], modes, EPS, 0.3, dtype="float64", rng=np.random.default_rng(seed), **arguments)
    return fill(layer, seed)


def mode_group_norm(seed, shape, modes, **arguments):
    layer = ModeGroupNorm(shape[1], modes, EPS, dtype="float64", rng=np.random.default_rng(seed), **arguments)
    return fill(layer, seed)


def batch_norm(channels, running="second_moment"):
    return BatchNorm(channels, EPS, 0.3, running, dtype="float64")


def assert_no_gate_gradients(layer, seed, shape):
    x, dy = batch(seed, shape)
    y, grads = run(layer, x, dy)
    allowed = gate_rounding(layer, x, y, dy)
    for name in ("dgate_weight", "dgate_bias"):
        assert_close(grads[name], np.zeros_like(grads[name]), allowed[name], name)


def assert_same_statistics(mode, plain):
    """Each mode's statistics are those of `plain`, after at most three batches of at most 7 · 12 values per channel."""
    for name, size in (("running_mean", 10.0), ("running_mean_square", 100.0)):  # of N(0.7, 2), far out
        want = host(plain.buffers[name])
        for got in host(mode.buffers[name]):
            assert_close(got, want, sums(2 * (7 * 12 + 3 * 3), size), name)


# -- MN and BN ---------------------------------------------------------------------------------------------------------


@FEW
@given(SEEDS, SHAPES)
def test_mode_norm_with_one_mode_is_batch_norm(seed, shape):
    x, dy = batch(seed, shape)
    mode = mode_norm(seed, shape, 1)
    both_agree(mode, affine_of(batch_norm(shape[1]), mode), x, dy)
    assert_no_gate_gradients(mode, seed, shape)


@FEW
@given(SEEDS, SHAPES)
def test_mode_norm_with_one_mode_is_batch_norm_of_the_second_moment_in_inference(seed, shape):
    mode = mode_norm(seed, shape, 1)
    plain = affine_of(batch_norm(shape[1]), mode)
    for step in range(3):
        x, dy = batch(seed + step, shape)
        both_agree(mode, plain, x, dy)
    assert_same_statistics(mode, plain)
    both_agree(mode.eval(), plain.eval(), x, dy)
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
        both_agree(mode, plain, x, dy, keys=("dx", "dweight", "dbias"))
    assert_same_statistics(mode, plain)
    both_agree(mode.eval(), plain.eval(), x, dy, keys=("dx", "dweight", "dbias"))


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
    whole = rounding_of(mode, x, dy)  # its means are counted from the middle between the clusters
    y, grads = run(mode, x, dy)
    np.testing.assert_array_equal(host(mode.gates), np.stack([cluster, ~cluster], axis=1))
    plain = affine_of(batch_norm(channels), mode)
    totals = {"dweight": 0.0, "dbias": 0.0}
    for members in (cluster, ~cluster):
        want = run(plain, x[members], dy[members])
        agree((y[members], {"dx": grads["dx"][members]}), want, whole, keys=("dx",))
        totals = {name: total + want[1][name] for name, total in totals.items()}
    for name, total in totals.items():
        assert_close(grads[name], total, whole[name], name)


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
    agree((y, grads), run(shared.train(training), x, dy), rounding_of(shared, x, dy))


# -- MGN, GN, LN and IN ------------------------------------------------------------------------------------------------


@FEW
@given(SEEDS, SHAPES)
def test_mode_group_norm_with_one_mode_is_group_norm_with_one_group_is_layer_norm(seed, shape):
    x, dy = batch(seed, shape)
    mode = mode_group_norm(seed, shape, 1)
    group = affine_of(GroupNorm(1, shape[1], EPS, "float64"), mode)
    layer = affine_of(LayerNorm(shape[1], EPS, "float64"), mode)
    want, allowed = run(layer, x, dy), rounding_of(layer, x, dy)
    agree(run(mode, x, dy), want, allowed)
    agree(run(group, x, dy), want, allowed)
    assert_no_gate_gradients(mode, seed, shape)


@FEW
@given(SEEDS, SHAPES, MODES)
def test_mode_group_norm_with_constant_gates_is_layer_norm(seed, shape, modes):
    x, dy = batch(seed, shape)
    mode = mode_group_norm(seed, shape, modes)
    mode.params["gate.weight"][...] = 0
    both_agree(mode, affine_of(LayerNorm(shape[1], EPS, "float64"), mode), x, dy, keys=("dx", "dweight", "dbias"))


@FEW
@given(SEEDS, SHAPES)
def test_group_norm_with_a_group_a_channel_is_instance_norm(seed, shape):
    x, dy = batch(seed, shape)
    group = fill(GroupNorm(shape[1], shape[1], EPS, "float64"), seed)
    both_agree(group, affine_of(InstanceNorm(shape[1], EPS, "float64"), group), x, dy)


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
            rounding_of(layer, x[:, some], dy[:, some]),
        )


@FEW
@given(SEEDS, st.integers(2, 5), st.integers(1, 5), MODES)
def test_without_pixels_the_two_readings_of_mode_group_norm_are_one(seed, n, c, modes):
    x, dy = batch(seed, (n, c))
    pooled, spatial = (mode_group_norm(seed, x.shape, modes, moments=moments) for moments in ("pooled", "spatial"))
    both_agree(pooled, spatial, x, dy)


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
        layer = fill(make(), seed)
        one = run(layer, x[:1], dy[:1])
        agree((y[:1], {"dx": grads["dx"][:1]}), one, rounding_of(layer, x[:1], dy[:1]), keys=("dx",))


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
    got = run(other.train(training), x, dy)
    agree(got, (y, want), rounding_of(layer, x, dy))


@FEW
@given(SEEDS, SHAPES, MODES, KINDS, st.floats(-300, 300))
def test_a_constant_added_to_all_logits_changes_nothing(seed, shape, modes, kind, constant):
    x, dy = batch(seed, shape)
    layer, other = gated(seed, shape, modes, kind), gated(seed, shape, modes, kind)
    other.params["gate.bias"] += constant
    allowed, rounded = rounding_of(other, x, dy), logit_rounding(other, x, dy, constant)
    agree(run(layer, x, dy), run(other, x, dy), {name: size + rounded[name] for name, size in allowed.items()})


@FEW
@given(SEEDS, SHAPES, MODES, st.sampled_from(["bn", "mn", "mgn"]))
def test_permuting_the_batch_permutes_the_outputs(seed, shape, modes, kind):
    x, dy = batch(seed, shape)
    order = np.random.default_rng(seed).permutation(len(x))

    def make():
        return fill(batch_norm(shape[1]), seed) if kind == "bn" else gated(seed, shape, modes, kind)

    y, want = run(make(), x, dy)
    want["dx"] = want["dx"][order]
    agree(run(make(), x[order], dy[order]), (y[order], want), rounding_of(make(), x, dy))


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
    x, dy = np.tile(x, tiled), np.tile(dy, tiled)
    agree(run(layer, x, dy), (np.tile(y, tiled), twice), rounding_of(layer, x, dy))


@FEW
@given(SEEDS, SHAPES, st.integers(2, 5))
def test_gates_are_probabilities_of_the_spatial_mean(seed, shape, modes):
    x, _ = batch(seed, shape)

    def probabilities(x, weight, bias):
        m = x.reshape(*shape[:2], -1).mean(axis=2)
        z = (m[:, :, None] * weight[:, 0] if weight.shape[1] == 1 != shape[1] else m @ weight.T) + bias
        return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)

    for layer in (mode_norm(seed, shape, modes), mode_group_norm(seed, shape, modes)):
        layer(to_device(x))
        gate = {name: host(layer.params[f"gate.{name}"]) for name in ("weight", "bias")}
        want = probabilities(x, **gate).reshape(layer.gates.shape)
        assert_close(host(layer.gates), want, rounding(probabilities, {"x": x} | gate)["y"], "the gates")


@FEW
@given(SEEDS, SHAPES, MODES)
def test_the_statistics_that_stay_readable_are_those_of_each_mode(seed, shape, modes):
    x, _ = batch(seed, shape)
    layer = mode_norm(seed, shape, modes)
    layer(to_device(x))
    flat, g = x.reshape(*shape[:2], -1), host(layer.gates)

    def moments(flat, g):
        w = g / g.sum()
        mu = (w[:, None] * flat.mean(axis=2)).sum(axis=0)
        return {"mean": mu, "var": (w[:, None] * ((flat - mu[:, None]) ** 2).mean(axis=2)).sum(axis=0)}

    for k in range(modes):
        inputs = {"flat": flat, "g": g[:, k]}
        want, allowed = moments(**inputs), rounding(moments, inputs)
        for name in want:
            assert_close(host(getattr(layer, name))[k], want[name], allowed[name], name)
