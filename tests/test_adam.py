"""Adam and AdamW: against the formulas on single numbers, PyTorch, and themselves after a reload."""

import math

import numpy as np
import pytest
from layer_runs import EACH_ENGINE, host
from tolerance import assert_close, terms

from minidl import Adam, AdamW, Layer, to_device

pytestmark = EACH_ENGINE
SHAPES = {"weight": (4, 3), "bias": (5,)}


class Leaf(Layer):
    def __init__(self, rng, dtype):
        super().__init__()
        for name, shape in SHAPES.items():
            self.add_param(name, rng.standard_normal(shape).astype(dtype))


class Tree(Layer):
    """Two leaves, of two dtypes or of one."""

    def __init__(self, rng, dtypes=("float64", "float32")):
        super().__init__()
        self.first, self.second = (Leaf(rng, dtype) for dtype in dtypes)


def give_gradients(model, rng):
    for _, layer in model.named_layers():
        for name, grad in layer.grads.items():
            grad[...] = to_device(rng.standard_normal(SHAPES[name]))


def params(model):
    return {f"{path}.{name}": host(p) for path, layer in model.named_layers() for name, p in layer.params.items()}


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("options", [{}, {"betas": (0.7, 0.8), "eps": 1e-3}, {"weight_decay": 0.3}, {"betas": (0, 0)}])
def test_each_number_follows_the_formulas(kind, options):
    rng = np.random.default_rng(0)
    model = Leaf(rng, "float64")
    optimiser = kind(model, lr=0.2, **options)
    beta1, beta2 = optimiser.betas
    p = float(host(model.params["weight"])[2, 1])
    m = v = 0.0
    for t in range(1, 6):
        give_gradients(model, rng)
        optimiser.lr = 0.2 / t
        g = float(host(model.grads["weight"])[2, 1])
        if kind is AdamW:
            p *= 1 - optimiser.lr * optimiser.weight_decay
        else:
            g += optimiser.weight_decay * p
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        p -= optimiser.lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + optimiser.eps)
        optimiser.step()
        # a dozen roundings a step, each of a term no larger than the parameter or the step's own length
        assert_close(host(model.params["weight"])[2, 1], p, terms(12 * t, 1 + abs(p)))


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("options", [{}, {"betas": (0.7, 0.8), "eps": 1e-3}, {"weight_decay": 0.1}], ids=str)
def test_it_is_pytorchs(kind, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    model = Tree(rng, ("float64", "float64"))
    theirs = {name: torch.nn.Parameter(torch.from_numpy(param)) for name, param in params(model).items()}
    other = getattr(torch.optim, kind.__name__)(theirs.values(), lr=0.03, **options)
    optimiser = kind(model, lr=0.03, **options)
    for lr in (0.03, 0.03, 0.01, 0.2, 0.03):
        optimiser.lr = other.param_groups[0]["lr"] = lr
        give_gradients(model, rng)
        for path, layer in model.named_layers():
            for name, grad in layer.grads.items():
                theirs[f"{path}.{name}"].grad = torch.from_numpy(host(grad))
        optimiser.step()
        other.step()
    for name, param in params(model).items():
        assert_close(param, theirs[name].detach().numpy(), terms(5 * 2 * 12, 1 + np.abs(param)), name)


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


def test_zero_grad_clears_every_gradient():
    model = Tree(np.random.default_rng(4))
    optimiser = Adam(model)
    give_gradients(model, np.random.default_rng(5))
    optimiser.zero_grad()
    assert not any(grad.any() for _, layer in model.named_layers() for grad in layer.grads.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("first.first.bias"), "state must fit the model, got missing first.first.bias; load the state"),
        (lambda s: s.pop("steps"), "state must have steps, an array of one number, got None; load the state of the"),
        (lambda s: s.update({"second.second.bias": np.zeros(4)}), r"second.second.bias must have shape \(5,\), got"),
    ],
)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(change, message):
    model = Tree(np.random.default_rng(4))
    optimiser = Adam(model)
    give_gradients(model, np.random.default_rng(5))
    optimiser.step()
    before = optimiser.state()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(ValueError, match=f"Adam.load_state: {message}"):
        optimiser.load_state(state)
    for name, array in before.items():
        np.testing.assert_array_equal(optimiser.state()[name], array)


@pytest.mark.parametrize(
    "options", [{"lr": -1}, {"betas": (0.9, 1)}, {"betas": (0.9,)}, {"eps": 0}, {"weight_decay": -1}], ids=str
)
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"Adam: {next(iter(options))} must"):
        Adam(Leaf(np.random.default_rng(0), "float32"), **options)


def test_parameters_in_which_squares_of_gradients_vanish_are_refused():
    with pytest.raises(ValueError, match=r"AdamW: model must have parameters of float32 or float64, got"):
        AdamW(Leaf(np.random.default_rng(0), "float16"))
