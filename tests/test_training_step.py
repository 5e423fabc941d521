"""A step of training is the same on every library, and on a device the host never waits in it."""

import numpy as np
import pytest
import strict
from layer_runs import draw, host
from tolerance import assert_close, rounding

from minidl import SGD, LeNet, SoftmaxCrossEntropy, norm_factory, to_device, to_host, use_backend
from minidl.norm import NORMS

EACH_NORM = pytest.mark.parametrize("norm", NORMS)
ON_A_DEVICE = pytest.mark.parametrize("library", ["strict"], indirect=True)
LABELS = np.array([3, 0, 6, 3, 5])
N = len(LABELS)


class Training:
    """LeNet with a norm, its loss and its optimiser."""

    def __init__(self, norm, dtype="float32", modes=3):
        rng = np.random.default_rng(3)
        factory = norm_factory(norm, modes=modes, momentum=0.6, dtype=dtype)
        self.model = LeNet(7, norm=factory, rng=rng, dtype=dtype)
        self.loss = SoftmaxCrossEntropy()
        self.optimiser = SGD(self.model, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)

    def step(self, x, labels):
        """Return the loss, unread."""
        loss = self.loss.forward(self.model(x), labels)
        self.optimiser.zero_grad()
        self.model.backward(self.loss.backward())
        self.optimiser.step()
        return loss


def images(step, dtype="float32"):
    """Return a batch whose samples differ in their means, which the gates see."""
    return (draw(step, N, 3, 32, 32, mean=0.0) + draw(100 + step, N, 3, 1, 1, mean=0.0, std=2.0)).astype(dtype)


@ON_A_DEVICE
@EACH_NORM
def test_a_training_step_never_waits_for_the_device_and_uploads_nothing(norm):
    training = Training(norm)
    batches = [(to_device(images(step)), to_device(LABELS)) for step in range(3)]
    with strict.no_synchronisation(), strict.recording() as record:
        losses = [training.step(*batch) for batch in batches]
    assert record.uploads == 0
    assert all(type(loss) is strict.ndarray and loss.shape == () for loss in losses)
    assert np.isfinite([float(loss) for loss in losses]).all()  # reading one is what waits
    with strict.no_synchronisation(), pytest.raises(strict.SynchronisationError, match=r"^float\(\) waits"):
        float(losses[0])


@ON_A_DEVICE
@pytest.mark.parametrize("norm", ["mn"])
def test_a_step_from_arrays_of_the_host_uploads_them_alone(norm):
    training = Training(norm)
    with strict.no_synchronisation(), strict.recording() as record:
        training.step(to_device(images(1)), LABELS)
    assert record.uploads == 2


def launches(norm, modes=3):
    """Return the number of operations that a step launches."""
    training = Training(norm, modes=modes)
    x, labels = to_device(images(1)), to_device(LABELS)
    with strict.recording() as record:
        training.step(x, labels)
    return len(record.operations)


@ON_A_DEVICE
def test_a_norm_adds_few_kernels_to_a_step_and_modes_none():
    bare = launches("none") - 4  # the convolutions' biases, which a norm replaces
    mode, mode_group = launches("mn"), launches("mgn")
    assert max(launches("bn"), launches("gn")) - bare <= 2 * 8  # two layers, 6 launches of them the heavy passes
    assert max(mode, mode_group) - bare <= 2 * 15
    assert launches("mn", 1) == launches("mn", 6) == mode
    assert launches("mgn", 1) == launches("mgn", 6) == mode_group


@ON_A_DEVICE
@EACH_NORM
def test_inference_never_waits_for_the_device(norm):
    training = Training(norm)
    training.step(to_device(images(1)), LABELS)
    training.model.eval()
    x, labels = to_device(images(2)), to_device(LABELS)
    with strict.no_synchronisation():
        right = (training.model(x).argmax(axis=1) == labels).sum()
    assert 0 <= int(right) <= N


@ON_A_DEVICE
@EACH_NORM
def test_three_steps_give_numpys_losses_parameters_and_statistics(norm):
    def train(batches, last, **state):
        training = Training(norm, "float64")
        training.model.load_state(state)
        losses = [to_host(training.step(to_device(x), LABELS)) for x in batches]
        logits = to_host(training.model.eval()(to_device(last)))
        return {"losses": np.array(losses), "logits": logits} | training.model.state() | training.optimiser.state()

    inputs = {"batches": np.stack([images(step, "float64") for step in range(3)]), "last": images(9, "float64")}
    inputs |= Training(norm, "float64").model.state()
    got = train(**inputs)
    with use_backend("numpy"):
        want, allowed = train(**inputs), rounding(train, inputs, trials=4)
    assert got.keys() == want.keys()
    for key in want:
        assert_close(got[key], want[key], allowed[key], key)


@ON_A_DEVICE
@pytest.mark.parametrize("norm", ["bn", "mn", "mgn"])
def test_a_run_goes_on_from_a_state_of_the_other_library(norm):
    on_the_device = Training(norm, "float64")
    for step in range(2):
        on_the_device.step(to_device(images(step, "float64")), LABELS)
    state, velocity = on_the_device.model.state(), on_the_device.optimiser.state()

    def goes_on(x, **state):
        on_the_host = Training(norm, "float64")
        on_the_host.model.load_state(state)
        on_the_host.optimiser.load_state(velocity)
        on_the_host.step(x, LABELS)
        return on_the_host.model.state()

    with use_backend("numpy"):
        inputs = {"x": images(7, "float64")} | state
        after, allowed = goes_on(**inputs), rounding(goes_on, inputs, trials=4)
    on_the_device.step(to_device(images(7, "float64")), LABELS)
    for path, array in on_the_device.model._named_arrays().items():
        assert_close(host(array), after[path], allowed[path], path)
