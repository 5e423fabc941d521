"""The identities that hold exactly (the norms as special cases of each other), for the output and every gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import assert_close, cancelled_gates, rounding, terms

from minidl import reference as R

FEW = settings(max_examples=15)
EPS = 1e-3
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(st.integers(2, 5), st.integers(2, 4)).flatmap(
    lambda nc: st.sampled_from([nc, (*nc, 3), (*nc, 3, 2), (*nc, 1, 4)])
)


def draw(seed, shape):
    """Return dy and x, weight, bias."""
    rng = np.random.default_rng(seed)
    C = shape[1]
    dy, x = rng.normal(size=shape), rng.normal(0.7, 2.0, size=shape)
    return dy, {"x": x, "weight": rng.normal(2, 0.5, size=C), "bias": rng.normal(-1, 0.5, size=C)}


def psi(seed, K, C):
    rng = np.random.default_rng([seed, 1])
    return {"gate_weight": rng.normal(size=(K, C)), "gate_bias": rng.normal(size=K)}


def agree(got, want, allowed):
    """Compare y, or the gradients by name."""
    if isinstance(want, dict):
        for name in want:
            assert_close(got[name], want[name], allowed[name], name)
    else:
        assert_close(got, want, allowed["y"], "y")


def both(name, dy, inputs, **arguments):
    """Return y and the gradients."""
    forward, backward = getattr(R, name), getattr(R, name + "_backward")
    return forward(**inputs, **arguments, eps=EPS), backward(dy, **inputs, **arguments, eps=EPS)


def rounding_of(name, dy, inputs, **arguments):
    """Return how far rounding may move y and each gradient.

    And not less than what remains of terms that cancel: those of dx where one value is normalised, and those of the
    gates' gradients where there is a single mode or a gate is 0 or 1.
    """

    def program(dy, **inputs):
        y, gradients = both(name, dy, inputs, **arguments)
        return {"y": y} | gradients

    allowed = rounding(program, {"dy": dy} | inputs)
    y, _ = both(name, dy, inputs, **arguments)
    slope = np.abs(inputs["weight"]).max() / np.sqrt(EPS) * np.abs(dy).max()
    least = {"dx": terms(4, slope)} | cancelled_gates(dy, y, inputs["x"], inputs["bias"])
    return allowed | {key: max(value, allowed.get(key, 0.0)) for key, value in least.items()}


def cancelled(x, first, second):
    """Return what one roundoff of the terms that cancel, |x| in x − μ and x² in σ², does to each normalised value."""
    size, deviation = np.abs(x).max(), np.sqrt(second - first**2 + EPS)
    return size / deviation + np.abs(x - first) * size**2 / deviation**3


@FEW
@given(SEEDS, SHAPES)
def test_mode_norm_with_one_mode_is_batch_norm(seed, shape):
    dy, inputs = draw(seed, shape)
    y, grads = both("mode_norm", dy, inputs | psi(seed, 1, shape[1]))
    want_y, want_grads = both("batch_norm", dy, inputs)
    allowed = rounding_of("batch_norm", dy, inputs)
    agree(y, want_y, allowed)
    agree(grads, want_grads | {"dgate_weight": np.zeros((1, shape[1])), "dgate_bias": np.zeros(1)}, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(2, 6))
def test_mode_norm_with_constant_gates_is_batch_norm(seed, shape, K):
    dy, inputs = draw(seed, shape)
    gate = psi(seed, K, shape[1])
    y, grads = both("mode_norm", dy, inputs | gate | {"gate_weight": np.zeros((K, shape[1]))})
    want_y, want_grads = both("batch_norm", dy, inputs)
    allowed = rounding_of("batch_norm", dy, inputs)
    agree(y, want_y, allowed)
    agree(grads, want_grads, allowed)


@FEW
@given(SEEDS, SHAPES)
def test_mode_group_norm_with_one_mode_is_group_norm_with_one_group_is_layer_norm(seed, shape):
    dy, inputs = draw(seed, shape)
    y, grads = both("mode_group_norm", dy, inputs | psi(seed, 1, 1))
    for name, arguments in (("group_norm", {"num_groups": 1}), ("layer_norm", {})):
        want_y, want_grads = both(name, dy, inputs, **arguments)
        allowed = rounding_of(name, dy, inputs, **arguments)
        agree(y, want_y, allowed)
        agree(grads, want_grads, allowed)
    agree(grads, {"dgate_weight": np.zeros((1, 1)), "dgate_bias": np.zeros(1)}, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(2, 4))
def test_mode_group_norm_with_constant_gates_is_layer_norm(seed, shape, K):
    dy, inputs = draw(seed, shape)
    y, grads = both("mode_group_norm", dy, inputs | psi(seed, K, 1) | {"gate_weight": np.zeros((K, 1))})
    want_y, want_grads = both("layer_norm", dy, inputs)
    allowed = rounding_of("layer_norm", dy, inputs)
    agree(y, want_y, allowed)
    agree(grads, want_grads, allowed)


@FEW
@given(SEEDS, SHAPES)
def test_group_norm_with_a_channel_a_group_is_instance_norm(seed, shape):
    dy, inputs = draw(seed, shape)
    allowed = rounding_of("instance_norm", dy, inputs)
    for got, want in zip(
        both("group_norm", dy, inputs, num_groups=shape[1]), both("instance_norm", dy, inputs), strict=True
    ):
        agree(got, want, allowed)


@FEW
@given(SEEDS, st.integers(2, 4), st.integers(1, 4))
def test_pooled_and_spatial_moments_agree_on_one_pixel(seed, C, K):
    dy, inputs = draw(seed, (3, C))
    inputs |= psi(seed, K, 1)
    allowed = rounding_of("mode_group_norm", dy, inputs)
    for got, want in zip(
        both("mode_group_norm", dy, inputs, moments="pooled"), both("mode_group_norm", dy, inputs), strict=True
    ):
        agree(got, want, allowed)


def test_pooled_and_spatial_moments_differ_on_more_pixels():
    _, inputs = draw(0, (3, 4, 5))
    spatial, pooled = (R.mode_group_norm(**inputs, **psi(0, 3, 1), eps=EPS, moments=m) for m in ("spatial", "pooled"))
    assert np.abs(spatial - pooled).max() > 0.1


@FEW
@given(SEEDS, SHAPES, st.integers(2, 5), st.sampled_from(["mode_norm", "mode_group_norm"]))
def test_permuting_the_modes_permutes_the_gates_gradients_and_nothing_else(seed, shape, K, name):
    dy, inputs = draw(seed, shape)
    gate = psi(seed, K, shape[1] if name == "mode_norm" else 1)
    order = np.random.default_rng(seed).permutation(K)
    y, grads = both(name, dy, inputs | gate)
    permuted_y, permuted_grads = both(name, dy, inputs | {k: v[order] for k, v in gate.items()})
    allowed = rounding_of(name, dy, inputs | gate)
    agree(permuted_y, y, allowed)
    agree(permuted_grads, {k: v[order] if "gate" in k else v for k, v in grads.items()}, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(1, 4))
def test_permuting_the_batch_permutes_mode_norm(seed, shape, K):
    dy, inputs = draw(seed, shape)
    inputs |= psi(seed, K, shape[1])
    order = np.random.default_rng(seed).permutation(shape[0])
    y, grads = both("mode_norm", dy, inputs)
    permuted_y, permuted_grads = both("mode_norm", dy[order], inputs | {"x": inputs["x"][order]})
    allowed = rounding_of("mode_norm", dy, inputs)
    agree(permuted_y, y[order], allowed)
    agree(permuted_grads, grads | {"dx": grads["dx"][order]}, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(2, 4), st.floats(-500, 500), st.sampled_from(["mode_norm", "mode_group_norm"]))
def test_adding_a_constant_to_all_logits_changes_nothing(seed, shape, K, constant, name):
    dy, inputs = draw(seed, shape)
    gate = psi(seed, K, shape[1] if name == "mode_norm" else 1)
    shifted = gate | {"gate_bias": gate["gate_bias"] + constant}
    allowed = rounding_of(name, dy, inputs | shifted)
    for got, want in zip(both(name, dy, inputs | shifted), both(name, dy, inputs | gate), strict=True):
        agree(got, want, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(1, 4))
def test_repeating_the_batch_repeats_mode_norm_and_doubles_the_parameters_gradients(seed, shape, K):
    dy, inputs = draw(seed, shape)
    inputs |= psi(seed, K, shape[1])
    y, grads = both("mode_norm", dy, inputs)
    twice = np.concatenate([dy, dy]), inputs | {"x": np.tile(inputs["x"], (2,) + (1,) * (len(shape) - 1))}
    twice_y, twice_grads = both("mode_norm", *twice)
    want = {k: 2 * v for k, v in grads.items() if k != "dx"} | {"dx": np.concatenate([grads["dx"]] * 2)}
    allowed = rounding_of("mode_norm", *twice)
    agree(twice_y, np.concatenate([y, y]), allowed)
    agree(twice_grads, want, allowed)


@FEW
@given(SEEDS, st.sampled_from([(7, 3), (7, 3, 4), (7, 3, 4, 2)]))
def test_mode_norm_with_gates_of_zero_and_one_is_batch_norm_on_each_cluster(seed, shape):
    dy, inputs = draw(seed, shape)
    cluster = np.array([0, 1, 0, 1, 1, 0, 0])
    # channel 0 has mean −5 in one cluster and +5 in the other, and Psi sees nothing else: logits 0 and ∓5000
    inputs["x"][:, 0] += (10 * cluster - 5 - inputs["x"][:, 0].reshape(7, -1).mean(axis=1)).reshape(
        (7,) + (1,) * (len(shape) - 2)
    )
    gate = {"gate_weight": np.array([[0.0, 0.0, 0.0], [1000.0, 0.0, 0.0]]), "gate_bias": np.zeros(2)}
    np.testing.assert_array_equal(R.gates(inputs["x"], **gate), np.eye(2)[cluster])
    y, grads = both("mode_norm", dy, inputs | gate)
    summed, allowed = {"dweight": 0, "dbias": 0}, rounding_of("mode_norm", dy, inputs | gate)
    for k in range(2):
        mine = cluster == k
        want_y, want = both("batch_norm", dy[mine], inputs | {"x": inputs["x"][mine]})
        agree(y[mine], want_y, allowed)
        agree({"dx": grads["dx"][mine]}, {"dx": want["dx"]}, allowed)
        summed = {name: summed[name] + want[name] for name in summed}
    agree(grads, summed, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(1, 4))
def test_mode_norm_is_the_papers_difference_of_moments(seed, shape, K):
    _, inputs = draw(seed, shape)
    gate = psi(seed, K, shape[1])

    def paper(x, weight, bias, **gate):
        x = x.reshape(*shape[:2], -1)
        g = R.gates(x, **gate)
        N_k = np.einsum("nk->k", g)
        first = np.einsum("nk,ncp->kc", g, x) / N_k[:, None] / x.shape[2]
        second = np.einsum("nk,ncp->kc", g, x**2) / N_k[:, None] / x.shape[2]
        xhat = (x[:, None] - first[:, :, None]) / np.sqrt(second - first**2 + EPS)[:, :, None]
        y = weight[:, None] * np.einsum("nk,nkcp->ncp", g, xhat) + bias[:, None]
        each = cancelled(x[:, None], first[..., None], second[..., None])
        left = weight[:, None] * np.einsum("nk,nkcp->ncp", g, each)
        return {"y": y.reshape(shape), "first": first, "second": second, "left": left.reshape(shape)}

    want, allowed = paper(**inputs, **gate), rounding(paper, inputs | gate)
    allowed["y"] = np.maximum(allowed["y"], terms(4 * np.prod(shape) / shape[1] + 12, want.pop("left")))
    zeros = np.zeros((K, shape[1]))
    moments = R.mode_norm_running(inputs["x"], **gate, running_mean=zeros, running_mean_square=zeros, momentum=1.0)
    got = dict(zip(want, (R.mode_norm(**inputs, **gate, eps=EPS), *moments), strict=True))
    agree(got, want, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(1, 4), st.sampled_from(["spatial", "pooled"]))
def test_mode_group_norm_is_the_papers_difference_of_moments(seed, shape, K, moments):
    _, inputs = draw(seed, shape)
    gate = psi(seed, K, 1)

    def paper(x, weight, bias, **gate):
        x = x.reshape(*shape[:2], -1)
        seen = x.mean(axis=2, keepdims=True) if moments == "pooled" else x
        g = R.channel_gates(x, **gate)
        C_k = np.einsum("nck->nk", g)
        first = np.einsum("nck,ncp->nk", g, seen) / C_k / seen.shape[2]
        second = np.einsum("nck,ncp->nk", g, seen**2) / C_k / seen.shape[2]
        first, second = first[:, :, None, None], second[:, :, None, None]
        xhat = (x[:, None] - first) / np.sqrt(second - first**2 + EPS)
        y = weight[:, None] / K * xhat.sum(axis=1) + bias[:, None]
        left = weight[:, None] / K * cancelled(x[:, None], first, second).sum(axis=1)
        return {"y": y.reshape(shape), "left": left.reshape(shape)}

    want, allowed = paper(**inputs, **gate), rounding(paper, inputs | gate)
    allowed["y"] = np.maximum(allowed["y"], terms(4 * np.prod(shape) / shape[0] + 12, want["left"]))
    agree(R.mode_group_norm(**inputs, **gate, eps=EPS, moments=moments), want["y"], allowed)


@FEW
@given(SEEDS, SHAPES, st.floats(0.05, 1.0))
def test_running_moments_of_mode_norm_with_one_mode_are_those_of_batch_norm(seed, shape, momentum):
    _, inputs = draw(seed, shape)
    mean, mean_square = np.random.default_rng(seed).normal(size=(2, shape[1]))
    got = R.mode_norm_running(
        inputs["x"],
        **psi(seed, 1, shape[1]),
        running_mean=mean[None],
        running_mean_square=mean_square[None],
        momentum=momentum,
    )

    def running(x, *before):
        return dict(zip(("mean", "mean_square"), R.batch_norm_running_moments(x, *before, momentum), strict=True))

    want = running(inputs["x"], mean, mean_square)
    allowed = rounding(lambda x, a, b: running(x, a, b), {"x": inputs["x"], "a": mean, "b": mean_square})
    agree({name: value[0] for name, value in zip(want, got, strict=True)}, want, allowed)


@FEW
@given(SEEDS, SHAPES)
def test_mode_norm_eval_with_one_mode_is_batch_norm_eval(seed, shape):
    dy, inputs = draw(seed, shape)
    mean, var = np.random.default_rng(seed).normal(size=shape[1]), np.random.default_rng(seed).uniform(1, 3, shape[1])
    y, grads = both(
        "mode_norm_eval",
        dy,
        inputs | psi(seed, 1, shape[1]),
        running_mean=mean[None],
        running_mean_square=(var + mean**2)[None],
    )
    want_y, want_grads = both("batch_norm_eval", dy, inputs, running_mean=mean, running_var=var)
    allowed = rounding_of("batch_norm_eval", dy, inputs, running_mean=mean, running_var=var)
    agree(y, want_y, allowed)
    agree(grads, want_grads, allowed)


@FEW
@given(SEEDS, SHAPES, st.integers(1, 4))
def test_mode_norm_eval_with_the_batchs_own_moments_is_mode_norm(seed, shape, K):
    _, inputs = draw(seed, shape)
    gate, zeros = psi(seed, K, shape[1]), np.zeros((K, shape[1]))
    mean, mean_square = R.mode_norm_running(
        inputs["x"], **gate, running_mean=zeros, running_mean_square=zeros, momentum=1.0
    )

    def in_inference(**arrays):
        return R.mode_norm_eval(**arrays, eps=EPS)

    arrays = inputs | gate | {"running_mean": mean, "running_mean_square": mean_square}
    agree(in_inference(**arrays), R.mode_norm(**inputs, **gate, eps=EPS), rounding(in_inference, arrays))


def test_mode_norm_eval_before_training_is_the_identity():
    _, inputs = draw(3, (5, 4, 3))
    y = R.mode_norm_eval(
        inputs["x"],
        np.ones(4),
        np.zeros(4),
        **psi(3, 3, 4),
        running_mean=np.zeros((3, 4)),
        running_mean_square=np.ones((3, 4)),
        eps=0.0,
    )
    assert_close(y, inputs["x"], terms(16, np.abs(inputs["x"]).max()))


@FEW
@given(SEEDS, SHAPES, st.integers(1, 4))
def test_the_same_affine_pair_for_every_mode_is_the_shared_pair(seed, shape, K):
    dy, inputs = draw(seed, shape)
    inputs |= psi(seed, K, shape[1])
    y, grads = both("mode_norm", dy, inputs)
    one_a_mode = {name: np.tile(inputs[name], (K, 1)) for name in ("weight", "bias")}
    mode_y, mode_grads = both("mode_norm", dy, inputs | one_a_mode)
    allowed = rounding_of("mode_norm", dy, inputs)
    agree(mode_y, y, allowed)
    agree(mode_grads | {k: mode_grads[k].sum(axis=0) for k in ("dweight", "dbias")}, grads, allowed)


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "layer_norm", "mode_norm", "mode_group_norm"])
@pytest.mark.parametrize("shape", [(3, 4, 12), (3, 4, 2, 6), (3, 4, 4, 3)])
def test_only_the_number_of_pixels_matters(name, shape):
    dy, inputs = draw(4, (3, 4, 12))
    inputs |= {"mode_norm": psi(4, 3, 4), "mode_group_norm": psi(4, 3, 1)}.get(name, {})
    want_y, want_grads = both(name, dy, inputs)
    y, grads = both(name, dy.reshape(shape), inputs | {"x": inputs["x"].reshape(shape)})
    assert y.shape == grads["dx"].shape == shape
    np.testing.assert_array_equal(y.reshape(3, 4, 12), want_y)
    np.testing.assert_array_equal(grads["dx"].reshape(3, 4, 12), want_grads["dx"])
