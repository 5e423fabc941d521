"""ONNX files: every layer and every network with every norm gives in onnxruntime what it gives here."""

import numpy as np
import pytest
import strict
from layer_cases import CASES
from onnx_runs import moved, run
from tolerance import assert_close, terms

from minidl import Dropout, LeNet, Linear, ModeNorm, ReLU, Sequential, norm_factory, use_backend
from minidl.classifier import Classifier
from minidl.interchange import StateError, export_onnx
from minidl.layers.shortcut import ZeroPaddedShortcut
from minidl.models import MODELS

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minidl[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from minidl.interchange.onnx_export import onnx_bytes  # noqa: E402

SIZES = {
    "lenet": ({}, 32),
    "lenet1989": ({}, 32),
    "nin": ({"width": 12}, 16),
    "vgg13": ({"width": 4}, 32),
    "resnet20": ({"width": 4}, 15),
    "resnet56": ({"width": 4}, 9),
    "resnet18": ({"width": 4}, 33),
}
NORMS = ("bn", "in", "ln", "gn", "mn", "mgn", "none")
DEEP = [(model, norm) for model in SIZES for norm in NORMS]


@pytest.mark.parametrize("name", CASES)
def test_a_layer_gives_the_same_in_onnxruntime(name):
    layer, (x, _) = CASES[name].layer("float32", training=False), CASES[name].arrays("float32")
    raw = onnx_bytes(layer, x.shape[1:])
    want, allowed = layer(x), moved(layer, x, trials=4)
    assert_close(run(raw, x), want, allowed)
    assert_close(run(raw, x[:1]), want[:1], allowed)  # another number of samples


def test_what_is_no_network_no_file_or_no_shape_gets_one_line_with_the_cure(tmp_path):
    classifier = Classifier.__new__(Classifier)
    for net, path, shape, message in (
        (3, "a.onnx", (3,), "net must be a minidl.Layer, got 3; give a network or a layer"),
        (classifier, "a.onnx", (3,), r"net must be a minidl.Layer, got a Classifier; give its network, net.network"),
        (ReLU(), 3, (3,), "path must be a path, got 3; give the file, such as 'net.onnx'"),
        (ReLU(), "a.onnx", 3, r"input_shape must be the shape of one sample, got 3; give it, such as \(3, 32, 32\)"),
    ):
        with pytest.raises(StateError, match=f"^export_onnx: {message}$"):
            export_onnx(net, path if path == 3 else tmp_path / path, shape)
    with pytest.raises(FileNotFoundError, match=r"No such file or directory; make its folder first: '.*gone.a.onnx'"):
        export_onnx(ReLU(), tmp_path / "gone" / "a.onnx", (3,))


@pytest.mark.parametrize("options", [{"gate_input": "normalised"}, {"gate_temperature": 0.5}])
def test_gates_that_are_not_the_papers_give_the_same_in_onnxruntime(options):
    rng = np.random.default_rng(0)
    layer = ModeNorm(3, 4, rng=rng, **options)
    for _ in range(5):
        layer.forward((2 * rng.normal(size=(7, 3, 4, 5)) + rng.normal(size=(7, 3, 1, 1))).astype(np.float32))
    for array in layer.params.values():
        array[...] += rng.uniform(0.2, 0.7, array.shape)
    x = (2 * rng.normal(size=(6, 3, 4, 5)) + rng.normal(size=(6, 3, 1, 1))).astype(np.float32)
    want = layer.eval()(x)
    assert layer.gates.std() > 0.05
    assert_close(run(onnx_bytes(layer, x.shape[1:]), x), want, moved(layer, x, trials=4))


@pytest.mark.parametrize(("out_channels", "stride"), [(7, 2), (7, 1), (4, 3), (4, 1)])
def test_a_shortcut_gives_the_same_in_onnxruntime(out_channels, stride):
    layer = ZeroPaddedShortcut(out_channels, stride)
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 8)).astype(np.float32)
    assert np.array_equal(run(onnx_bytes(layer, x.shape[1:]), x), layer(x))


def network(model, norm):
    """Return a network of which no parameter and no statistic is 0 or 1, and images."""
    width, size = SIZES[model]
    rng = np.random.default_rng(3)
    net = MODELS[model](6, norm=norm_factory(norm, modes=3, momentum=0.9), rng=rng, **width)
    state = net.state()
    net.load_state({name: v + rng.uniform(0.1, 0.4, v.shape) * (v.ndim < 4) for name, v in state.items()})
    x = rng.normal(size=(5, 3, size, size)) + rng.normal(size=(5, 3, 1, 1))  # gates see the means
    x = x.astype(np.float32)
    net.forward(x)  # the statistics of these images, nearly
    return net.eval(), x


@pytest.mark.parametrize(("model", "norm"), DEEP)
def test_a_network_gives_the_same_in_onnxruntime(model, norm):
    net, x = network(model, norm)
    raw = onnx_bytes(net, x.shape[1:])
    want = net(x)
    assert np.ptp(want) > 1e-3, "vacuous outputs"
    assert_close(run(raw, x), want, moved(net, x, trials=3))


@pytest.mark.parametrize("name", ["Conv2d, no bias", "BatchNorm", "GroupNorm", "ModeNorm", "ModeGroupNorm"])
def test_where_the_network_lives_does_not_matter(name):
    case = CASES[name]
    here = onnx_bytes(case.layer("float32"), case.shape[1:])
    with strict.as_cupy(), use_backend("cupy"):
        there = onnx_bytes(case.layer("float32"), case.shape[1:])
    assert there == here


def test_the_gates_and_the_running_statistics_matter():
    """The comparison above can fail: a wrong gate or a wrong statistic is far beyond the tolerance."""
    layer, (x, _) = CASES["ModeNorm"].layer("float32", training=False), CASES["ModeNorm"].arrays("float32")
    allowed, y = moved(layer, x, trials=4), run(onnx_bytes(layer, x.shape[1:]), x)
    for array in ("gate.weight", "gate.bias", "running_mean", "running_mean_square"):
        state = layer.state()
        layer.load_state({**state, array: state[array] * 1.01})
        assert np.abs(layer(x) - y).max() > 10 * allowed, array
        layer.load_state(state)


def test_large_means_keep_their_precision():
    """Modes are counted from their average: a mean of 1000 does not enter the products."""
    layer = ModeNorm(4, 3, rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    mean = 1000 + rng.normal(size=(3, 4))
    layer.buffers["running_mean"][...] = mean
    layer.buffers["running_mean_square"][...] = mean**2 + 0.5
    layer.params["gate.weight"][...] *= 1e-3
    x = (1000 + rng.normal(size=(5, 4, 3, 7))).astype(np.float32)
    want = layer(x)
    # x − origin is exact; the gates' input, some 1000, is off by some ten roundoffs of it, and times a weight of 1/3000
    # the logits by ten roundoffs of 1/3; a product and two sums of values below 8 follow
    assert_close(run(onnx_bytes(layer, x.shape[1:]), x), want, terms(20, 8, "float32"))


def test_the_file_states_its_opset_names_and_free_batch(tmp_path):
    net = LeNet(10, norm=norm_factory("mn"), rng=np.random.default_rng(0))
    export_onnx(net, tmp_path / "net.onnx", (3, 32, 32), {"mean": "[0.5]"})
    assert net.training
    model = onnx.load(tmp_path / "net.onnx")
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    names = [
        (v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*model.graph.input, *model.graph.output)
    ]
    assert names == [("x", ["N", 3, 32, 32]), ("y", ["N", 10])]
    assert [(p.key, p.value) for p in model.metadata_props] == [("mean", "[0.5]")]
    assert {node.domain for node in model.graph.node} == {""}  # plain operators
    first = (tmp_path / "net.onnx").read_bytes()
    export_onnx(net, tmp_path / "net.onnx", (3, 32, 32), {"mean": "[0.5]"})
    assert (tmp_path / "net.onnx").read_bytes() == first


class _Doubled(ReLU):
    """A layer of one's own."""

    def forward(self, x):
        return 2 * super().forward(x)


class _Written(_Doubled):
    def to_onnx(self, graph, x):
        y = graph.op("Relu", [x.name], x.shape)
        return graph.op("Mul", [y.name, graph.floats("two", 2.0)], x.shape)


def test_a_layer_of_ones_own_is_refused_until_it_can_be_written():
    rng = np.random.default_rng(0)
    with pytest.raises(StateError, match=r"layer 1 of type _Doubled .* give it a method to_onnx"):
        onnx_bytes(Sequential(Linear(3, 4, rng=rng), _Doubled()), (3,))
    net = Sequential(Linear(3, 4, rng=rng), _Written())
    x = rng.normal(size=(5, 3)).astype(np.float32)
    assert_close(run(onnx_bytes(net, (3,)), x), net(x), moved(net, x, trials=4))


def _other(graph, x):
    return graph.op("Mul", [x.name, graph.floats("two", 2.01)], x.shape)


def _flat(graph, x):
    return graph.op("Flatten", [x.name], (12,), axis=1)


def _unknown(graph, x):
    return graph.op("Doubled", [x.name], x.shape)


def _misspelt(graph, x):
    return graph.op("Relu", [y.name], x.shape)  # noqa: F821


def _no_value(graph, x):
    return graph.op("Relu", [x.name], x.shape).name


def _value(graph, x):
    return graph.op("Relu", [x], x.shape)


def _no_list(graph, x):
    return graph.op("Relu", x.name, x.shape)


def _listed(graph, x):
    return graph.op("Reshape", [x.name, graph.integers("shape", [0, 4, 3])], x.shape)


def _halved(graph, x):
    return graph.op("Reshape", [x.name, graph.integers("shape", 0, 4, 6 / 2)], x.shape)


def _other_names(graph):
    return graph


def _no_method(graph, x):
    return graph.ints("shape", 0)


def _unpacked(graph, x):
    top, _ = graph.op("TopK", [x.name, graph.integers("k", 1)], (4, 1))
    return graph.op("Relu", [top.name], x.shape)


def _unfit(graph, x):
    return graph.op("Add", [x.name, graph.floats("a", np.ones(7))], x.shape)


@pytest.mark.parametrize(
    ("to_onnx", "message"),
    [
        (_other, r"must give what forward gives in evaluation, got values that differ by up to 0\.\d+; mend it"),
        (_flat, r"must give \(4, 3\) a sample, as forward does, got \(12,\); mend it"),
        (_unknown, r"no valid ONNX \(.*Doubled.*\); mend to_onnx"),
        (_misspelt, r"to_onnx failed: NameError: name 'y' is not defined.* \(test_onnx\.py, line \d+\); mend it"),
        (_no_value, r"to_onnx must return what graph\.op returns, got str; mend it"),
        (
            _value,
            r"failed: TypeError: graph\.op: inputs must be a list of names, got a list of Value; .*\[x\.name\]",
        ),
        (_no_list, r"failed: TypeError: graph\.op: inputs must be a list of names, got str; give .*\[x\.name\]"),
        (_listed, r"one by one, got \[0, 4, 3\]; give graph\.integers\('shape', 1, 2\) for \[1, 2\] \(test_onnx\.py"),
        (_halved, r"whole numbers, one by one, got 3\.0; "),
        (_other_names, r"failed: TypeError: .*, test_onnx\.py, line \d+\); define it as to_onnx\(self, graph, x\)$"),
        (_no_method, r"no attribute 'ints' \(test_onnx\.py, line \d+\); graph has op, ops, floats and integers$"),
        (_unpacked, r"'name' \(test_onnx\.py, line \d+\); .* several outputs are graph\.ops$"),
        (_unfit, r"no valid ONNX|cannot be run"),
    ],
)
def test_operators_that_are_not_the_layers_are_refused_in_one_line(monkeypatch, to_onnx, message):
    class Doubled(ReLU):
        def forward(self, x):
            return 2 * x

    layer = Doubled()
    assert np.array_equal(run(onnx_bytes(_Written(), (4, 3)), np.ones((2, 4, 3), np.float32)), np.full((2, 4, 3), 2))
    monkeypatch.setattr(layer, "to_onnx", to_onnx, raising=False)
    with pytest.raises(StateError, match=r"^export_onnx: layer itself of type Doubled: .*") as error:
        onnx_bytes(layer, (4, 3))
    assert error.match(message)
    assert "\n" not in str(error.value)


def test_a_shape_that_does_not_fit_is_one_line():
    with pytest.raises(StateError, match=r"LeNet does not take x \(1, 3, 30, 30\)") as caught:
        onnx_bytes(LeNet(10), (3, 30, 30))
    assert "\n" not in str(caught.value)


def test_dropout_alone_is_the_identity():
    x = np.ones((3, 4), np.float32)
    assert np.array_equal(run(onnx_bytes(Dropout(0.5), (4,)), x), x)


def test_a_network_of_float64_is_written_as_float32():
    net = LeNet(10, norm=norm_factory("mn", dtype="float64"), rng=np.random.default_rng(0), dtype="float64").eval()
    x = np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype(np.float32)
    single = LeNet(10, norm=norm_factory("mn")).eval()
    single.load_state(net.state())
    assert_close(run(onnx_bytes(net, (3, 32, 32)), x), single(x), moved(single, x, trials=3))
