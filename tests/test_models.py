"""LeNet's shapes, names, sizes and gradient; the norm factory; how parameters begin."""

import numpy as np
import pytest
from gradients import STEPS, slope
from layer_runs import EACH_LIBRARY, draw, parameters
from tolerance import assert_close, draws, rounding

from minidl import (
    BatchNorm,
    Conv2d,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LeNet,
    LeNet1989,
    Linear,
    ModeGroupNorm,
    ModeNorm,
    SoftmaxCrossEntropy,
    init,
    norm_factory,
    to_device,
    to_host,
    use_backend,
)
from minidl.models import MODELS
from minidl.norm import NORMS

EACH_NORM = pytest.mark.parametrize("norm", NORMS)
SHORT = tuple(1e-3 * step for step in STEPS[1:6])  # seldom is a kink of ReLU or of a max pool within the last of them


def rng(seed=0):
    return np.random.default_rng(seed)


def lenet(norm, seed=0, **arguments):
    return LeNet(7, norm=norm_factory(norm, modes=3), rng=rng(seed), **arguments)


@EACH_LIBRARY
@EACH_NORM
def test_lenet_maps_images_to_logits(norm):
    net = lenet(norm)
    y = net(to_device(draw(1, 3, 3, 32, 32).astype("float32")))
    assert (y.shape, y.dtype) == ((3, 7), np.float32)
    assert np.isfinite(to_host(y)).all()
    assert net.backward(to_device(draw(2, 3, 7).astype("float32"))) is None  # nobody reads the images' gradient


@pytest.mark.parametrize("in_channels", [1, 3])
def test_lenet_takes_other_numbers_of_channels(in_channels):
    assert lenet("bn", in_channels=in_channels)(np.zeros((2, in_channels, 32, 32), np.float32)).shape == (2, 7)


@EACH_LIBRARY
@EACH_NORM
def test_the_network_of_1989_maps_images_to_logits(norm):
    net = LeNet1989(7, norm=norm_factory(norm, modes=3), rng=rng())
    y = net(to_device(draw(1, 3, 3, 32, 32).astype("float32")))
    assert (y.shape, y.dtype) == ((3, 7), np.float32)
    assert net.backward(to_device(draw(2, 3, 7).astype("float32"))) is None


def test_the_network_of_1989_has_the_parameters_one_counts_by_hand():
    weights = 12 * 3 * 25 + 12 * 12 * 25 + 768 * 30 + 30 + 30 * 40 + 40
    assert LeNet1989(40).num_params() == weights + 2 * 12
    assert LeNet1989(40, norm=norm_factory("bn")).num_params() == weights + 2 * 2 * 12


def test_lenet_of_the_paper_has_the_parameters_one_counts_by_hand():
    convs, dense = 6 * 3 * 25 + 16 * 6 * 25, 120 * 400 + 120 + 84 * 120 + 84 + 40 * 84 + 40
    net = {name: LeNet(40, norm=norm_factory(name, modes=2), rng=rng()).num_params() for name in NORMS}
    assert net["none"] == convs + dense + 6 + 16
    assert net["bn"] == net["in"] == net["ln"] == net["gn"] == convs + dense + 2 * (6 + 16)
    assert net["mn"] == net["bn"] + (2 * 6 + 2) + (2 * 16 + 2)
    assert net["mgn"] == net["bn"] + 2 * (2 + 2)


def test_lenet_names_its_state_by_position():
    assert list(lenet("mn").state()) == [
        *("0.weight", "1.weight", "1.bias", "1.gate.weight", "1.gate.bias", "1.running_mean", "1.running_mean_square"),
        *("4.weight", "5.weight", "5.bias", "5.gate.weight", "5.gate.bias", "5.running_mean", "5.running_mean_square"),
        *("9.weight", "9.bias", "11.weight", "11.bias", "13.weight", "13.bias"),
    ]
    assert [name for name in lenet("none").state() if name.startswith("0.")] == ["0.weight", "0.bias"]


@EACH_LIBRARY
@EACH_NORM
def test_one_seed_gives_one_network_on_every_library_and_another_seed_another(norm):
    a, c = lenet(norm, 1).state(), lenet(norm, 2).state()
    with use_backend("numpy"):
        b = lenet(norm, 1).state()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["0.weight"], c["0.weight"])
    if norm in ("mn", "mgn"):
        assert not np.array_equal(a["1.gate.weight"], c["1.gate.weight"])


@EACH_NORM
@pytest.mark.parametrize("model", ["lenet", "lenet1989"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_gradient_of_the_whole_network_is_the_slope_of_its_loss(norm, model, training):
    x = draw(1, 4, 3, 32, 32, mean=0.0, std=1.0) + draw(5, 4, 3, 1, 1, mean=0.0, std=2.0)  # the gates see these means
    labels = np.array([3, 0, 6, 3])
    net = MODELS[model](7, norm=norm_factory(norm, modes=3, momentum=0.6, dtype="float64"), rng=rng(), dtype="float64")
    for i, (path, p) in enumerate(parameters(net).items()):
        p += draw(10 + i, *p.shape, mean=0.0, std=1.0 if "gate" in path else 0.05)
    net(x + draw(6, 4, 3, 1, 1))  # for the running statistics of the modes to differ
    net.train(training)
    start = net.state()
    along = {path: draw(30 + i, *p.shape, mean=0.0, std=0.1) for i, (path, p) in enumerate(parameters(net).items())}

    def value(**arrays):
        net.load_state(arrays)
        return SoftmaxCrossEntropy().forward(net.forward(x), labels)

    noise = rounding(value, start, trials=4)["y"]
    net.load_state(start)
    loss = SoftmaxCrossEntropy()
    loss.forward(net.forward(x), labels)
    net.backward(loss.backward())
    got = {
        f"{path}.{name}": (along[f"{path}.{name}"] * g).sum()
        for path, one in net.named_layers()
        for name, g in one.grads.items()
    }
    wanted = {
        path: slope(lambda h, path=path: value(**start | {path: start[path] + h * along[path]}), noise, SHORT)
        for path in along
    }
    largest = max(abs(found) for found, _ in wanted.values())
    for path, (found, error) in wanted.items():
        assert error < 1e-3 * largest, f"{path}: a vacuous slope"
        assert_close(got[path], found, error, path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_the_parameters_is_the_one_asked_for(dtype):
    net = LeNet(7, norm=norm_factory("mn", dtype=dtype), rng=rng(), dtype=dtype)
    assert {p.dtype for p in parameters(net).values()} == {np.dtype(dtype)}


def test_the_factory_makes_each_norm_with_its_arguments():
    made = {name: norm_factory(name, modes=3, groups=2, momentum=0.3)(4, rng()) for name in NORMS if name != "none"}
    kinds = {
        "bn": BatchNorm,
        "in": InstanceNorm,
        "ln": LayerNorm,
        "gn": GroupNorm,
        "mn": ModeNorm,
        "mgn": ModeGroupNorm,
    }
    assert {name: type(layer) for name, layer in made.items()} == kinds
    assert made["bn"].momentum == made["mn"].momentum == 0.3
    assert made["gn"].num_groups == 2
    assert made["mn"].num_modes == made["mgn"].num_modes == 3
    assert norm_factory("none") is None


def test_the_factory_gives_each_norm_its_own_number_of_modes_in_turn_and_says_when_there_are_too_few():
    for name in ("mn", "mgn"):
        make = norm_factory(name, modes=[3, 5])
        assert [make(4, rng()).num_modes for _ in range(2)] == [3, 5]
        with pytest.raises(
            ValueError, match=r"norm_factory: modes must have one K for each norm, got \[3, 5\] for more"
        ):
            make(4, rng())
    assert norm_factory("mn", modes=3, per_mode_affine=True)(4, rng()).params["weight"].shape == (3, 4)


def test_models_are_found_by_name():
    assert (MODELS["lenet"], MODELS["lenet1989"]) == (LeNet, LeNet1989)


def test_weights_begin_uniform_in_one_over_the_root_of_the_fan_in():
    for layer, fan_in in ((Linear(400, 300, rng=rng()), 400), (Conv2d(16, 200, (5, 3), rng=rng()), 16 * 15)):
        bound = 1 / np.sqrt(fan_in)
        for p in layer.params.values():
            assert np.abs(p).max() <= bound
            assert np.abs(p).max() > 0.95 * bound
            assert_close(p.mean(), 0.0, draws(p.size, bound / np.sqrt(3)))
            assert_close((p**2).mean(), bound**2 / 3, draws(p.size, bound**2 * np.sqrt(1 / 5 - 1 / 9)))


def test_gates_begin_as_the_authors_code_does():
    K, C = 3, 4000
    weight, bias = init.mode_gate(K, C, rng(), "float32")
    assert (weight.shape, bias.shape) == ((K, C), (K,))
    assert weight.dtype == bias.dtype == np.float32
    noise = weight.astype("float64") - 1 / K
    assert_close(noise.mean(), 0.0, draws(K * C, 0.01))
    assert_close((noise**2).mean(), 0.01**2, draws(K * C, 0.01**2 * np.sqrt(2)))
    biases = np.concatenate([init.mode_gate(K, 4, rng(seed), "float64")[1] for seed in range(500)])
    assert 0.49 < np.abs(biases).max() <= 0.5
    assert_close((biases**2).mean(), 0.5**2 / 3, draws(biases.size, 0.5**2 * np.sqrt(1 / 5 - 1 / 9)))


def test_norms_begin_with_weight_one_and_bias_zero():
    for name in NORMS:
        if (factory := norm_factory(name)) is not None:
            layer = factory(4, rng())
            assert (layer.params["weight"] == 1).all()
            assert (layer.params["bias"] == 0).all()
