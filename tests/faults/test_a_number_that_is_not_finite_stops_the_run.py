"""Promise 9: NaN or Inf stops the run at its update, is named by layer and tensor, and no file holds it."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_run import TOTAL, tiny_config, tiny_task, train

import minidl
from minidl.train import DivergedError, Trainer, checkpoint
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")


def break_backward(trainer, layer, update, what):
    """Let a layer's backward give a gradient that is not finite at one update, and again when it is looked into."""
    backward = layer.backward

    def broken(dy):
        dx = backward(dy)
        if trainer.step + 1 == update:
            if what == "the input":
                dx = dx.copy()
                dx.flat[3] = np.inf
            else:
                layer.grads[what].flat[-1] = np.nan
        return dx

    layer.backward = broken


@pytest.mark.parametrize(
    ("index", "what", "kind"), [(6, "bias", "Linear"), (2, "weight", "ModeNorm"), (1, "weight", "Conv2d")]
)
def test_a_gradient_is_noticed_at_its_update_and_named(tmp_path, index, what, kind):
    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    layer = trainer.model.layers[index]
    break_backward(trainer, layer, 6, what)
    with pytest.raises(DivergedError) as error:
        trainer.run()
    assert (
        f"a gradient is not finite at update 6 (lr 0.025), first in the gradient of {what} of layer {index} ({kind})"
        in (str(error.value))
    )
    assert trainer.step == 5
    state = trainer.model.state()
    assert all(np.isfinite(array).all() for array in state.values()), "the step was not taken"


def test_the_first_layer_in_the_backward_pass_is_named(tmp_path):
    trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
    break_backward(trainer, trainer.model.layers[4], 3, "the input")
    with pytest.raises(DivergedError, match=r"first in the gradient of the input of layer 4 \(GlobalAvgPool2d\)"):
        trainer.run()


def test_a_batch_is_named_and_a_dump_replays_it(tmp_path):
    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    normalised = trainer._loader._normalised
    calls = []

    def broken(images):
        x = normalised(images)
        calls.append(len(images))
        if len(calls) == 7:
            x[1, 2, 3, 4] = np.inf
        return x

    trainer._loader._normalised = broken
    with pytest.raises(DivergedError, match=r"at update 7 .*first in the batch itself; mend the data.*step-000000007"):
        trainer.run()
    tensors, _ = checkpoint.load(tmp_path / "run" / "crash" / "step-000000007.safetensors")
    assert np.isinf(tensors["batch.x"][1, 2, 3, 4])
    again = train(None, until=6)
    weights = {name: array for name, array in again.model.state().items() if "running" not in name}
    for name, array in weights.items():
        np.testing.assert_array_equal(tensors[f"model.{name}"], array)


def test_an_output_of_a_layer_is_named():
    trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
    layer = trainer.model.layers[3]
    forward = layer.forward
    layer.forward = lambda x: forward(x) if trainer.step < 4 else forward(x) * np.float32(np.inf)
    with pytest.raises(DivergedError, match=r"at update 5 .*first in the output of layer 3 \(ReLU\)"):
        trainer.run()


def test_an_evaluation_that_is_not_finite_is_not_logged(tmp_path):
    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    layer = trainer.model.layers[3]
    forward = layer.forward
    layer.forward = lambda x: forward(x) if layer.training else forward(x) * np.float32(np.nan)
    with pytest.raises(DivergedError, match=r"the test loss is nan after update 5, first in the output of layer 3"):
        trainer.run()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_large_finite_gradients_are_no_alarm():
    from minidl.train.finite import gradient_sum

    trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
    for _, layer in trainer.model.named_layers():
        for grad in layer.grads.values():
            grad[...] = np.finfo(np.float32).max
    assert np.isfinite(gradient_sum(trainer.model))


def test_a_rate_that_is_too_high_ends_with_3_and_every_file_is_strict_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "multitask", "--sample", "--norm", "bn", "--lr", "1e15", "--updates", "6", "--eval-every", "1"]
    assert main([*args, "--batch-size", "16", "--out", "R", "--quiet"]) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert ", first in " in err

    def refuse(text):
        raise AssertionError(text)

    for path in tmp_path.rglob("*.json*"):
        for text in path.read_text("utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]:
            json.loads(text, parse_constant=refuse)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_update_and_keeps_the_checkpoint_before(tmp_path):
    trainer = train(tmp_path / "run", until=7)
    trainer.model.layers[-1].params["bias"][1] = np.inf
    with pytest.raises(
        DivergedError, match=r"nan at update 8 \(lr 0.025\), first in bias of layer 6 \(Linear\); lower --lr"
    ):
        trainer.run()
    kept = checkpoint.list_steps(tmp_path / "run" / "checkpoints")
    assert [path.name for path in kept] == ["step-000000004.safetensors", "step-000000007.safetensors"]
    assert train(tmp_path / "run", resume=True).step == TOTAL


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    trainer = train(tmp_path / "run", until=3)
    trainer.model.layers[-1].params["bias"][1] = np.inf
    trainer.state.step = 4
    with pytest.raises(DivergedError, match=r"model.6.bias is not finite after update 4; lower --lr"):
        trainer.save()
    assert [path.name for path in checkpoint.list_steps(tmp_path / "run" / "checkpoints")] == [
        "step-000000003.safetensors"
    ]


@pytest.fixture
def huge(tmp_path):
    """A run whose newest checkpoint holds weights that are finite and whose products are not."""
    train(tmp_path / "run", until=10)
    path = checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1]
    tensors, meta = checkpoint.load(path)
    tensors["model.1.weight"] = np.sign(tensors["model.1.weight"]) * np.float32(3e38)
    checkpoint.save(path.parent, meta.pop("step"), tensors, meta)
    return tmp_path / "run"


FIRST = r"first in the output of layer 1 \(Conv2d\)"


@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_a_network_whose_output_is_not_finite_answers_nothing_and_is_named(huge, use):
    net = minidl.load(huge)
    what = {"predict": "an output of the network is not finite", "evaluate": "the test loss is nan"}[use]
    cure = "the weights are too large; take an earlier checkpoint of the run, or train it anew"
    with pytest.raises(DivergedError, match=f"^{what} after update 10, {FIRST}: {cure}$") as error:
        net.predict(np.full((2, 3, 32, 32), 200, np.uint8)) if use == "predict" else net.evaluate(tiny_task())
    assert error.value.exit_status == 3
    assert not net.network.training


def test_a_command_that_gets_no_finite_number_ends_with_3_and_one_line(huge, tmp_path, capsys):
    from minidl.predict.__main__ import main as predict

    Image.fromarray(np.full((32, 32), 200, np.uint8)).save(tmp_path / "image.png")
    assert predict([str(huge), str(tmp_path / "image.png")]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_weights_that_are_too_large_for_the_first_pass_are_what_is_to_be_changed_and_not_the_rate(huge, tmp_path):
    with pytest.raises(
        DivergedError, match=rf"at update 11 .*, {FIRST}; what its checkpoint holds is too large; remove"
    ):
        train(huge, resume=True)
    with pytest.raises(
        DivergedError, match=rf"update 1 .*, {FIRST}; the weights of {huge} are too large; start --from"
    ):
        train(tmp_path / "new", start_from=str(huge))
    checkpoint.list_steps(huge / "checkpoints")[-1].unlink()  # the cure
    assert train(huge, resume=True).step == TOTAL


def test_a_network_that_gives_nothing_finite_from_the_start_is_not_sent_to_its_rate():
    trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
    trainer.model.layers[1].params["weight"][...] *= np.float32(3e38)
    cure = "no learning rate has changed the weights yet: check the data and the settings, and start anew"
    with pytest.raises(DivergedError, match=f"at update 1 .*; {cure}"):
        trainer.run()


def test_running_statistics_that_overflow_alone_are_named_in_training():
    from minidl import BatchNorm, Sequential, SoftmaxCrossEntropy
    from minidl.train.finite import first_bad

    model = Sequential(BatchNorm(4))
    model.layers[0].buffers["running_var"][1] = np.inf
    x, labels = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32), np.array([0, 1, 2])
    for mode in (True, False):
        assert (
            first_bad(model.train(mode), SoftmaxCrossEntropy(), x, labels, mode) == "running_var of layer 0 (BatchNorm)"
        )
