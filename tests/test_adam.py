"""Adam and AdamW: against the formulas on single numbers, PyTorch, and themselves after a reload."""

import math

import numpy as np
import pytest

from minidl.adam import Adam, AdamW
from minidl.layers.base import Layer

SHAPES = {"weight": (4, 3), "bias": (5,)}


class Leaf(Layer):
    def __init__(self, rng, dtype):
        super().__init__()
        for name, shape in SHAPES.items():
            self.add_param(name, rng.standard_normal(shape).astype(dtype))


class Tree(Layer):
    """Two leaves of two dtypes."""

    def __init__(self, rng):
        super().__init__()
        self.first = Leaf(rng, "float64")
        self.second = Leaf(rng, "float32")


def give_gradients(model, rng):
    for _, layer in model.named_layers():
        for name, grad in layer.grads.items():
            grad[...] = rng.standard_normal(SHAPES[name])


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("options", [{}, {"betas": (0.7, 0.8), "eps": 1e-3}, {"weight_decay": 0.3}, {"betas": (0, 0)}])
def test_each_number_follows_the_formulas(kind, options):
    rng = np.random.default_rng(0)
    model = Leaf(rng, "float64")
    optimiser = kind(model, lr=0.2, **options)
    beta1, beta2 = optimiser.betas
    p = float(model.params["weight"][2, 1])
    m = v = 0.0
    for t in range(1, 6):
        give_gradients(model, rng)
        optimiser.lr = 0.2 / t
        g = float(model.grads["weight"][2, 1])
        if kind is AdamW:
            p *= 1 - optimiser.lr * optimiser.weight_decay
        else:
            g += optimiser.weight_decay * p
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        p -= optimiser.lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + optimiser.eps)
        optimiser.step()
        assert model.params["weight"][2, 1] == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_it_is_pytorchs(kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    model = Leaf(rng, "float64")
    theirs = {name: torch.nn.Parameter(torch.from_numpy(param.copy())) for name, param in model.params.items()}
    other = getattr(torch.optim, kind.__name__)(theirs.values(), lr=0.03, weight_decay=0.1)
    optimiser = kind(model, lr=0.03, weight_decay=0.1)
    for _ in range(5):
        give_gradients(model, rng)
        for name, param in theirs.items():
            param.grad = torch.from_numpy(model.grads[name].copy())
        optimiser.step()
        other.step()
    for name, param in theirs.items():
        np.testing.assert_allclose(model.params[name], param.detach().numpy(), rtol=1e-12)


def test_a_reloaded_optimiser_goes_on_bit_for_bit():
    models = [Tree(np.random.default_rng(2)) for _ in range(2)]
    first, second = (AdamW(model, lr=0.1) for model in models)
    draws = [np.random.default_rng(3) for _ in range(2)]
    for _ in range(3):
        give_gradients(models[0], draws[0])
        first.step()
        give_gradients(models[1], draws[1])
    models[1].load_state(models[0].state())
    second.load_state(first.state())
    for model, optimiser, rng in zip(models, (first, second), draws, strict=True):
        give_gradients(model, rng)
        optimiser.step()
    for name, array in models[0].state().items():
        np.testing.assert_array_equal(array, models[1].state()[name])


def test_zero_grad_and_states_that_do_not_fit():
    model = Tree(np.random.default_rng(4))
    optimiser = Adam(model)
    give_gradients(model, np.random.default_rng(5))
    optimiser.zero_grad()
    assert not any(grad.any() for _, layer in model.named_layers() for grad in layer.grads.values())
    state = optimiser.state()
    del state["first.first.bias"]
    with pytest.raises(ValueError, match=r"Adam.load_state: state must fit the model, got missing first.first.bias"):
        optimiser.load_state(state)


@pytest.mark.parametrize("options", [{"lr": -1}, {"betas": (0.9, 1)}, {"eps": 0}, {"weight_decay": -1}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"Adam.__init__: {next(iter(options))} must"):
        Adam(Leaf(np.random.default_rng(0), "float32"), **options)
