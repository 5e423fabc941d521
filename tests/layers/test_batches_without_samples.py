"""A batch without samples gives arrays without samples, forwards and backwards, and moves nothing."""

import numpy as np
import pytest
from layer_cases import CASES
from layer_runs import EACH_ENGINE, gradients, host, run

from minidl import BatchNorm, LeNet, ModeNorm, norm_factory, to_device, to_host


@EACH_ENGINE
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [name for name in CASES if name != "Dropout"])
def test_every_layer_takes_it(name, training):
    case = CASES[name]
    layer = case.layer("float32", training)
    x = np.zeros((0, *case.shape[1:]), np.float32)
    one = to_host(case.layer("float32", False)(to_device(case.x(1, *case.shape).astype(np.float32))))
    before = layer.state()
    y, grads = run(layer, x, np.zeros((0, *one.shape[1:]), np.float32))
    assert y.shape == (0, *one.shape[1:])
    assert y.dtype == np.float32
    assert grads.pop("dx").shape == x.shape
    assert not any(grad.any() for grad in grads.values())
    for path, array in layer.state().items():
        np.testing.assert_array_equal(array, before[path], path)


@EACH_ENGINE
@pytest.mark.parametrize("name", ["bn", "mn", "gn"])
def test_a_network_takes_it(name):
    net = LeNet(10, norm=norm_factory(name), rng=0)
    logits = net(to_device(np.zeros((0, 3, 32, 32), np.float32)))
    assert logits.shape == (0, 10)
    net.backward(logits)
    assert not any(host(grad).any() for grad in gradients(net).values())


@EACH_ENGINE
@pytest.mark.parametrize("make", [lambda: BatchNorm(4), lambda: ModeNorm(4, rng=0)])
def test_a_norm_normalises_as_before_after_it(make):
    x = np.random.default_rng(0).normal(size=(5, 4, 3, 3)).astype(np.float32)
    plain, other = make(), make()
    other(to_device(x[:0]))
    np.testing.assert_array_equal(host(other(to_device(x))), host(plain(to_device(x))))
