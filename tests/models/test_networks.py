"""The paper's networks: sizes, names, initial values, shapes, the norm that is first alone."""

from itertools import pairwise

import numpy as np
import pytest
from layer_runs import EACH_LIBRARY, draw

from minidl import BatchNorm, ModeNorm, norm_factory, to_device, to_host
from minidl.interchange import from_torch_state, to_torch_state
from minidl.layers.dropout import Dropout
from minidl.models import MODELS, ResNetCIFAR
from minidl.models.parts import first_alone
from minidl.norm import NORMS

WIDTHS = {"nin": 12, "vgg13": 2, "resnet20": 2, "resnet56": 2, "resnet18": 2}
EACH_MODEL = pytest.mark.parametrize("model", WIDTHS)


def make(model, norm="bn", seed=0, **arguments):
    factory = norm_factory(norm) if isinstance(norm, str) else norm
    return MODELS[model](6, norm=factory, rng=np.random.default_rng(seed), **({"width": WIDTHS[model]} | arguments))


@pytest.mark.parametrize(
    ("model", "classes", "count"),
    [("resnet20", 10, 269_722), ("resnet56", 10, 853_018), ("resnet18", 1000, 11_689_512)],
)
def test_residual_networks_have_the_published_numbers_of_parameters(model, classes, count):
    assert MODELS[model](classes, norm=norm_factory("bn")).num_params() == count


def test_network_in_network_has_the_parameters_of_lin_et_al_and_modes_add_less_than_a_hundredth():
    count = {name: MODELS["nin"](10, norm=norm_factory(name)).num_params() for name in ("none", "bn", "mn")}
    convs = (3 * 25 * 192, 192 * 160, 160 * 96, 96 * 25 * 192, 192 * 192, 192 * 192, 192 * 9 * 192, 192 * 192, 192 * 10)
    channels = (192, 160, 96, 192, 192, 192, 192, 192, 10)
    assert count["none"] == sum(convs) + sum(channels) == 966_986
    assert count["bn"] == sum(convs) + 2 * sum(channels)
    assert count["mn"] - count["bn"] == 2 * sum(channels) + 2 * len(channels) < 0.01 * count["bn"]
    assert [layer.p for layer in MODELS["nin"](10).layers if isinstance(layer, Dropout)] == [0.25, 0.25]


def test_vgg13_has_ten_convolutions_and_one_linear_layer():
    widths = (3, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512)
    convs = sum(9 * c * o + 2 * o for c, o in pairwise(widths))
    assert MODELS["vgg13"](10, norm=norm_factory("bn")).num_params() == convs + 512 * 10 + 10


@EACH_LIBRARY
@pytest.mark.parametrize("norm", NORMS)
@EACH_MODEL
def test_images_become_logits(model, norm):
    net = make(model, norm)
    y = net(to_device(draw(1, 3, 3, 32, 32).astype("float32")))
    assert (y.shape, y.dtype) == ((3, 6), np.float32)
    assert np.isfinite(to_host(y)).all()
    assert net.backward(to_device(draw(2, 3, 6).astype("float32"))) is None


@pytest.mark.parametrize(("model", "size"), [("resnet18", 224), ("resnet20", 31), ("nin", 30)])
def test_networks_that_end_in_a_mean_over_the_image_take_other_sizes(model, size):
    assert make(model, width=6).eval()(draw(1, 2, 3, size, size).astype("float32")).shape == (2, 6)


@EACH_MODEL
def test_convolutions_begin_normal_with_two_over_fan_in(model):
    net = make(model, width=24)
    kernels = [value for value in net.state().values() if value.ndim == 4]
    z = np.concatenate([w.ravel() * np.sqrt(w[0].size / 2) for w in kernels])  # standard normal, if the rule holds
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / z.size)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / z.size)


def test_a_network_without_norms_has_biases_that_begin_at_zero():
    state = make("vgg13", "none").state()
    assert (state["0.bias"] == 0).all()
    assert "0.bias" not in make("vgg13").state()


@EACH_MODEL
def test_one_seed_gives_one_network(model):
    a, b, c = make(model, "mn").state(), make(model, "mn").state(), make(model, "mn", seed=1).state()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert all(not np.array_equal(a[name], c[name]) for name in a if a[name].ndim == 4 or ".gate." in name)


@EACH_MODEL
def test_the_first_norm_alone_can_have_modes(model):
    net = make(model, first_alone(norm_factory("mn"), norm_factory("bn")))
    kinds = [type(layer) for _, layer in net.named_layers() if isinstance(layer, ModeNorm | BatchNorm)]
    assert kinds == [ModeNorm] + [BatchNorm] * (len(kinds) - 1)
    assert len(kinds) >= 9
    assert type(net.layers[1]) is ModeNorm  # behind the convolution that reads the image


def test_the_first_norm_alone_needs_norms():
    with pytest.raises(ValueError, match=r"^first_alone: both factories must make norms, got None; use"):
        first_alone(None, norm_factory("bn"))


def test_sizes_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"^ResNetCIFAR: depth must be 6n \+ 2, got 21; the paper's are 20 and 56"):
        ResNetCIFAR(21)
    with pytest.raises(ValueError, match=r"^NIN: width must be a multiple of 6, got 8; the paper's is 192"):
        MODELS["nin"](10, width=8)


# -- names -------------------------------------------------------------------------------------------------------------

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm_of(path):
    return [f"{path}.{name}" for name in NORM]


def block_of(path, downsample=False):
    names = [f"{path}.conv1.weight", *norm_of(f"{path}.bn1"), f"{path}.conv2.weight", *norm_of(f"{path}.bn2")]
    return names + [f"{path}.downsample.0.weight", *norm_of(f"{path}.downsample.1")] * downsample


def test_the_names_of_resnet18_are_those_of_torchvision():
    want = ["conv1.weight", *norm_of("bn1")]
    for stage in (1, 2, 3, 4):
        want += [*block_of(f"layer{stage}.0", downsample=stage > 1), *block_of(f"layer{stage}.1")]
    assert list(to_torch_state(make("resnet18"))) == [*want, "fc.weight", "fc.bias"]
    assert len(want) + 2 == 122


def test_the_names_of_resnet20_and_of_vgg13_are_the_usual_ones():
    want = ["conv1.weight", *norm_of("bn1")]
    want += [name for stage in (1, 2, 3) for block in (0, 1, 2) for name in block_of(f"layer{stage}.{block}")]
    assert list(to_torch_state(make("resnet20"))) == [*want, "linear.weight", "linear.bias"]
    at = [i + 7 * pair + j for pair in range(5) for i, j in ((0, 0), (0, 3))]
    want = [name for i in at for name in (f"features.{i}.weight", *norm_of(f"features.{i + 1}"))]
    assert list(to_torch_state(make("vgg13"))) == [*want, "classifier.weight", "classifier.bias"]
    assert list(to_torch_state(make("nin")))[:2] == ["classifier.0.weight", "classifier.1.weight"]


@pytest.mark.parametrize("norm", ["bn", "mn", "none"])
@EACH_MODEL
def test_a_state_comes_back_from_pytorchs_names(model, norm):
    net, other = make(model, norm), make(model, norm, seed=1)
    from_torch_state(other, to_torch_state(net))
    want = net.state()
    assert all(np.array_equal(value, want[name]) for name, value in other.state().items())


def test_a_state_of_another_network_is_refused_and_changes_nothing():
    net = make("resnet20")
    before = net.state()
    state = to_torch_state(make("resnet20", seed=1))
    state["fc.weight"] = state.pop("linear.weight")
    with pytest.raises(ValueError, match=r"missing linear\.weight; unexpected fc\.weight; build"):
        from_torch_state(net, state)
    assert all(np.array_equal(value, before[name]) for name, value in net.state().items())
