"""A network, an optimiser and data that `Trainer` is given from Python."""

import json

import numpy as np
import pytest
from tiny_run import TOTAL, make_tiny, result, tiny_config, tiny_task

from minidl import SGD
from minidl.adam import AdamW
from minidl.train import ConfigError, RunError, Trainer

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
    code = json.loads((tmp_path / "run" / "config.json").read_text())["code"]
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
