"""A network, an optimiser and data that `Trainer` is given from Python."""

import json

import numpy as np
import pytest
from tiny_run import TOTAL, make_tiny, result, tiny_config, tiny_task, train

import minidl
from minidl import SGD
from minidl.adam import AdamW
from minidl.train import ConfigError, RunError, Trainer
from minidl.train.__main__ import make_parser

pytestmark = pytest.mark.usefixtures("no_curves")


def adamw(model):
    return AdamW(model, lr=0.05, weight_decay=0.1)


def trainer(out, resume=False, **given):
    given = {"model": make_tiny, "optimiser": adamw, **given}
    return Trainer(tiny_config(), out, resume=resume, quiet=True, task=tiny_task(), **given)


def test_a_run_with_both_is_resumed_bit_for_bit(tmp_path):
    trainer(tmp_path / "whole").run()
    trainer(tmp_path / "cut").run(until=7)
    assert trainer(tmp_path / "cut", resume=True).run()["step"] == TOTAL
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def test_what_makes_a_network_gets_the_weights_stream_and_a_network_is_taken_as_it_is():
    made = trainer(None, optimiser=None)
    named = Trainer(tiny_config(), quiet=True, task=tiny_task())
    for name, array in named.model.state().items():
        np.testing.assert_array_equal(made.model.state()[name], array)
    model = make_tiny(4, 3, None, np.random.default_rng(9), "float32")
    assert trainer(None, model=model).model is model


def test_the_record_has_names_and_hashes_and_other_parts_are_refused(tmp_path):
    trainer(tmp_path / "run").run(until=2)
    code = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["code"]
    assert code["model"]["name"] == "tiny_run:make_tiny"
    assert code["optimiser"]["name"].endswith(":adamw")
    assert all(len(part["sha256"]) == 64 for part in code.values())
    with pytest.raises(RunError, match=r"was trained from Python with optimiser .*:adamw; resume it there"):
        trainer(tmp_path / "run", resume=True, optimiser=None)
    with pytest.raises(RunError, match="holds another run: optimiser_name"):
        trainer(tmp_path / "run", resume=True, optimiser=lambda model: SGD(model, 0.05))


def test_an_optimiser_with_another_rate_or_half_of_the_methods_is_refused():
    with pytest.raises(ConfigError, match=r"its lr must be the configuration's, .* got 0.2 and 0.05"):
        trainer(None, optimiser=lambda model: SGD(model, 0.2))
    with pytest.raises(ConfigError, match="optimiser: object must have lr, step, zero_grad, state, load_state"):
        trainer(None, optimiser=lambda model: object())


def test_an_optimiser_of_another_network_is_refused_and_one_of_a_part_is_not():
    other = make_tiny(4, 3, None, np.random.default_rng(9), "float32")
    for optimiser in (SGD(other, 0.05), lambda model: SGD(other, 0.05)):
        with pytest.raises(ConfigError, match=r"not those of the network, .*give lambda model: SGD\(model, \.\.\.\)"):
            trainer(None, optimiser=optimiser)
    whole = make_tiny(4, 3, None, np.random.default_rng(9), "float32")
    made = trainer(None, model=whole, optimiser=SGD(whole, 0.05))
    assert not any(layer.grads[name].any() for _, layer in made.model.named_layers() for name in layer.grads)
    trainer(None, optimiser=lambda model: SGD(model.layers[-1], 0.05))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"optimiser": 3},
            "optimiser must be one such as minidl.SGD, or a function of the model .* got 3; give lambda m",
        ),
        ({"optimiser": "adam"}, "optimiser must be one such as .* got 'adam'; give .*, or leave it out and name it in"),
        (
            {"optimiser": SGD},
            "optimiser: it cannot be made for the network: TypeError: .*'lr'; give a function of the ",
        ),
        (
            {"optimiser": lambda model: 1 / 0},
            r"cannot be made for the network: ZeroDivisionError: .* \(test_trainer_from_python.py, line \d+\); give",
        ),
        (
            {"model": 3},
            "model must be a minidl.Layer, or a function or class that makes one, got 3; give that, or leave",
        ),
        (
            {"model": "lenet"},
            "model must be a minidl.Layer, .* got 'lenet'; give that, or leave it out and name the net",
        ),
        ({"model": lambda: 3}, "must make a minidl.Layer, got int .*; derive it from Layer"),
        ({"task": "mnist"}, "task must be a Task, got 'mnist'; give minidl.data.load_task"),
        ({"task": np.zeros(3)}, "task must be a Task, got ndarray; give minidl.data.load_task"),
        ({"config": {"lr": 0.1}}, "config must be a Config, got dict; give recipe"),
        ({"config": None}, "config must be a Config, got None; give recipe"),
    ],
)
def test_what_is_given_and_is_of_no_use_gets_one_line_with_the_cure(tmp_path, given, message):
    given = {"config": tiny_config(norm="none"), "task": tiny_task(), **given}
    with pytest.raises(ConfigError, match=message) as found:
        Trainer(given.pop("config"), tmp_path / "run", quiet=True, **given)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_where_a_run_is_kept_must_be_a_folder(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("mine")
    for out, message in (
        (file, "a.py is a file, not a folder; give another --out"),
        (3, "^Trainer: out must be a path, got 3; give the folder of the run$"),
    ):
        with pytest.raises(RunError, match=message):
            Trainer(tiny_config(norm="none"), out, quiet=True, task=tiny_task())
    assert file.read_text("utf-8") == "mine"


def test_a_network_of_pytorch_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(ConfigError, match=r"model must be a minidl.Layer, .* got Linear; give that"):
        Trainer(tiny_config(norm="none"), quiet=True, task=tiny_task(), model=torch.nn.Linear(3, 4))


class Mix(SGD):
    """A norm of one's own."""


def test_a_norm_or_a_network_is_named_and_not_given():
    with pytest.raises(ConfigError, match=rf"--norm must be the name of .*; write norm='{__name__}:Mix'$"):
        tiny_config(norm=Mix)
    with pytest.raises(
        ConfigError, match=r"write model='tiny_run:make_tiny', or give the network itself: Trainer\(con"
    ):
        tiny_config(model=make_tiny)


def test_what_has_no_meaning_from_python_gets_one_line_with_the_cure(tmp_path):
    with pytest.raises(ConfigError, match="Trainer: resume=True must go with the folder of a run, got out=None; give"):
        Trainer(tiny_config(), None, resume=True, task=tiny_task())
    trainer = Trainer(tiny_config(), tmp_path / "run", task=tiny_task(), quiet=True)
    for until in ("1e", 2.0, -1, True):
        with pytest.raises(
            ConfigError, match=r"^run: until must be .*; pass a number of updates, such as trainer.total"
        ):
            trainer.run(until=until)
    trainer.run(until=np.int64(2))
    assert trainer.step == 2


def test_what_cannot_be_loaded_or_ranked_gets_one_line_with_the_cure(tmp_path):
    train(tmp_path / "run", until=2)
    with pytest.raises(TypeError, match="load: path must be a path, got 3; give a run's folder or a file in its check"):
        minidl.load(3)
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "run" / name).touch()
        with pytest.raises(
            RunError, match=rf"{name} is no checkpoint, it is a file of a run; give the run's folder, .*run"
        ):
            minidl.load(tmp_path / "run" / name)
    net = minidl.load(tmp_path / "run")
    found = net.predict(np.zeros((1, 3, 32, 32), np.uint8))
    for k in ("2", 0, 1.5, None):
        with pytest.raises(ValueError, match=r"^top: k must be .*; pass how many classes, from 1 up$"):
            found.top(k, net.class_names)
    assert len(found.top(9, net.class_names)[0]) == 4


def test_help_names_no_number_that_only_some_recipes_have():
    text = " ".join(make_parser().format_help().split())
    assert "images per update (the recipe's)" in text
    assert "learning rate (the recipe's; of adam and adamw 0.001)" in text
    assert "(128)" not in text
