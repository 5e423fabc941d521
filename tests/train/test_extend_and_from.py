"""A finished run made longer, and a run that starts from another's weights."""

import hashlib
import json

import numpy as np
import pytest
from tiny_run import TOTAL, make_tiny, result, tiny_config, tiny_task, train
from tolerance import assert_close, terms

import minidl
from minidl.data import arrays_task
from minidl.train import RunError, Trainer, checkpoint
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")

LONGER = "23u"


def record(out):
    return json.loads((out / "config.json").read_text("utf-8"))


def rates(out):
    """Return {update: the rate that its evaluation logged}."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {line["step"]: line["lr"] for line in lines}


# -- a longer run -------------------------------------------------------------------------------------------------


def test_a_run_with_a_constant_rate_extended_is_the_longer_run(tmp_path):
    for optimiser in ("sgd", "adamw"):
        settings = {"lr_drops": (), "optimiser": optimiser, "weight_decay": 0.01}
        whole = train(tmp_path / f"{optimiser}-whole", length=LONGER, **settings)
        train(tmp_path / optimiser, **settings)
        extended = train(tmp_path / optimiser, resume=True, length=LONGER, **settings)
        assert extended.step == whole.step == 23
        for name, array in whole.model.state().items():
            np.testing.assert_array_equal(extended.model.state()[name], array)
        for name, array in whole.optimiser.state().items():
            np.testing.assert_array_equal(extended.optimiser.state()[name], array)


def test_from_there_on_the_rate_is_that_of_a_run_of_the_new_length(tmp_path):
    settings = {"lr_drops": ("5/7", "6/7"), "drop_factor": 0.5, "eval_every": 1}
    train(tmp_path / "run", **settings)
    before = rates(tmp_path / "run")
    train(tmp_path / "run", resume=True, length="28u", **settings)
    got = rates(tmp_path / "run")
    assert [got[step] for step in range(1, 15)] == [before[step] for step in range(1, 15)]
    assert (before[10], before[11], before[13]) == (0.05, 0.025, 0.0125)  # drops after 10 and 12 of 14
    assert [got[step] for step in (15, 20, 21, 24, 25, 28)] == [0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]


def test_a_cosine_goes_on_from_where_the_longer_run_would_be(tmp_path):
    settings = {"schedule": "cosine", "eval_every": 1}
    train(tmp_path / "run", **settings)
    train(tmp_path / "run", resume=True, length="28u", **settings)
    got = rates(tmp_path / "run")
    assert_close(got[14], 0.05 * (1 + np.cos(np.pi * 13 / 14)) / 2, terms(8, 0.05))
    assert_close(got[15], 0.05 * (1 + np.cos(np.pi * 14 / 28)) / 2, terms(8, 0.05))


def test_an_extension_is_recorded_with_the_plan_before_it(tmp_path):
    train(tmp_path / "run")
    before = record(tmp_path / "run")
    train(tmp_path / "run", resume=True, length=LONGER)
    train(tmp_path / "run", resume=True, length="27u")
    there = record(tmp_path / "run")
    assert there["config"] == {**before["config"], "length": "27u"}
    assert there["plan"]["updates"] == 27
    assert [(stage["length"], stage["until"], stage["plan"]["updates"]) for stage in there["stages"]] == [
        ("14u", 14, 14),
        ("23u", 23, 23),
    ]
    assert there["stages"][0]["plan"] == before["plan"]
    assert sorted(rates(tmp_path / "run")) == [5, 10, 14, 15, 20, 23, 25, 27]
    assert json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))["step"] == 27
    assert train(tmp_path / "run", resume=True, length="27u").step == 27  # and is found again


def extended(out, **options):
    train(out)
    return train(out, resume=True, length=LONGER, **options)


@pytest.mark.parametrize("cut", [15, 16, 20])
def test_an_extension_that_was_interrupted_goes_on_bit_for_bit(tmp_path, cut):
    extended(tmp_path / "whole")
    extended(tmp_path / "cut", until=cut)
    train(tmp_path / "cut", resume=True, length=LONGER)
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def test_an_extension_goes_on_from_a_checkpoint_of_before(tmp_path):
    extended(tmp_path / "whole")
    extended(tmp_path / "cut", until=15)
    for path in checkpoint.list_steps(tmp_path / "cut" / "checkpoints")[1:]:
        path.write_bytes(b"damaged")
    train(tmp_path / "cut", resume=True, length=LONGER)
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def test_a_run_that_was_not_finished_can_be_made_longer_too(tmp_path):
    train(tmp_path / "run", until=7)
    train(tmp_path / "run", resume=True, length=LONGER)
    assert sorted(rates(tmp_path / "run")) == [5, 10, 15, 20, 23]  # nothing at 14: it was no end
    assert record(tmp_path / "run")["stages"][0]["until"] == 7


def test_a_length_that_is_trained_already_is_refused_and_changes_nothing(tmp_path):
    train(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    for length in ("9u", "56"):  # 56 touches are 14 updates
        with pytest.raises(
            RunError, match=r"run has trained 14 updates already, .* asked for is \d+; give a longer one"
        ):
            train(tmp_path / "run", resume=True, length=length)
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert {**after, ".lock": b""} == {**before, ".lock": b""}


def test_other_settings_are_refused_with_a_longer_length_too(tmp_path):
    train(tmp_path / "run")
    with pytest.raises(RunError, match=r"holds another run: lr 0.05 there, 0.07 asked. Leave those settings out"):
        train(tmp_path / "run", resume=True, length=LONGER, lr=0.07)


def test_the_command_extends_a_run_and_tells_it_from_one_that_was_so_long_from_the_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["tiny", "mnist", "--sample", "--batch-size", "100", "--norm", "bn", "--out", "run", "--threads", "1"]
    assert main([*args, "--epochs", "1", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["--out", "run", "--resume", "--epochs", "2"]) == 0
    assert "run is extended from 1e to 2e after update 11: from here on the learning rate is that of a run of 2e" in (
        capsys.readouterr().out
    )
    assert list(rates(tmp_path / "run")) == [11, 22]
    assert main([*args, "--epochs", "2"]) == 1
    assert "run already holds a run; --resume continues it" in capsys.readouterr().err
    assert main(["--out", "run", "--resume", "--epochs", "1"]) == 1
    out, err = capsys.readouterr()
    assert "has trained 22 updates already" in err
    assert "resuming" not in out


def test_a_folder_that_is_taken_is_refused_in_one_line_without_a_word_of_the_backend(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train("run", until=2)
    monkeypatch.setenv("MINIDL_BACKEND", "auto")
    assert main(["tiny", "mnist", "--sample", "--out", "run"]) == 1
    err = capsys.readouterr().err
    assert "run already holds a run; --resume continues it" in err
    assert err.count("\n") == 1


# -- another run's weights ----------------------------------------------------------------------------------------


def three_classes():
    rng = np.random.default_rng(4)
    return arrays_task(rng.integers(0, 256, (30, 32, 32, 3), np.uint8), np.array(["x", "y", "z"] * 10))


def start(out, where="run", task=None, resume=False, **changes):
    config = tiny_config(start_from=where, **changes)
    return Trainer(config, out, quiet=True, task=task or tiny_task(), resume=resume)


@pytest.mark.parametrize("of", ["run", "checkpoint"])
def test_a_run_starts_with_the_weights_of_another_and_a_fresh_optimiser(tmp_path, monkeypatch, of):
    monkeypatch.chdir(tmp_path)
    first = train("run")
    file = checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1]
    trainer = start("new", "run" if of == "run" else str(file), seed=5)
    for name, array in first.model.state().items():
        np.testing.assert_array_equal(trainer.model.state()[name], array)
    assert not any(array.any() for array in trainer.optimiser.state().values())
    there = record(tmp_path / "new")
    assert there["from"] == {
        "run": str(tmp_path / "run"),
        "checkpoint": "step-000000014.safetensors",
        "checkpoint_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "step": TOTAL,
        "name": "tiny multitask",
        "class_names": ["a", "b", "c", "d"],
        "as_drawn": [],
    }
    assert there["config"]["start_from"] == str(tmp_path / "run" if of == "run" else file)


def test_the_last_layer_stays_as_drawn_where_the_number_of_classes_differs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = train("run")
    trainer = start("new", task=three_classes())
    drawn = Trainer(tiny_config(), quiet=True, task=three_classes()).model.state()
    for name, array in trainer.model.state().items():
        expected = drawn[name] if name.startswith("6.") else first.model.state()[name]
        np.testing.assert_array_equal(array, expected, err_msg=name)
    assert record(tmp_path / "new")["from"]["as_drawn"] == ["6.bias", "6.weight"]


def test_a_run_from_anothers_weights_is_resumed_bit_for_bit_without_that_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("run")
    start("whole").run()
    start("cut").run(until=7)
    (tmp_path / "run").rename(tmp_path / "gone")
    start("cut", resume=True).run()
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def test_before_its_first_checkpoint_it_starts_again_from_the_same_weights_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("run")
    start("whole").run()
    start("cut")
    start("cut", resume=True).run()
    assert result(tmp_path / "cut") == result(tmp_path / "whole")
    start("other")
    train("run", resume=True, length="18u")
    with pytest.raises(RunError, match="other has no checkpoint yet, and what it was started --from has changed"):
        start("other", resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "bn"}, r"run cannot be started from: norm 'mn' there, 'bn' asked; .*; start with the same network"),
        (
            {"modes": 2},
            r"run cannot be started from: modes 3 there, 2 asked; 2\..* is \(3,.*; start with the same network",
        ),
        ({"where": "nowhere"}, "nowhere: no such run or checkpoint; give a run's folder or a file in its checkpoints"),
    ],
)
def test_weights_that_do_not_fit_get_one_line_with_the_cure(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    train("run", until=2)
    with pytest.raises(RunError, match=message):
        start("new", **changes)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"norm": "ln"}, {"norm": "in"}, "but the network is another one: norm 'ln' there, 'in' asked"),
        ({"norm": "gn", "groups": 5}, {"norm": "gn", "groups": 1}, "another one: groups 5 there, 1 asked"),
        ({"norm": "ln", "groups": 2}, {"norm": "in", "groups": 3}, "another one: norm 'ln' there, 'in' asked"),
        ({}, {"gate_temperature": 2.0}, "another one: gate_temperature 1.0 there, 2.0 asked"),
        ({"norm": "ln"}, {"norm": "ln"}, None),
        ({"norm": "ln", "groups": 2}, {"norm": "ln", "groups": 3, "gate_temperature": 2.0}, None),
    ],
)
def test_another_norm_of_the_same_arrays_is_named(tmp_path, monkeypatch, capsys, before, after, message):
    monkeypatch.chdir(tmp_path)
    train("run", until=2, **before)
    Trainer(tiny_config(start_from="run", **after), "new", task=tiny_task())
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("starting from ")]
    n = len(minidl.load("run").network.state())
    assert f" after update 2: {n} of {n} arrays" in line
    assert line.endswith(message if message else f"{n} arrays")
    assert ("differs" in record(tmp_path / "new")["from"]) == bool(message)


def test_a_network_of_other_widths_does_not_pass_for_one_of_other_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("run", until=2)

    def wider(num_classes, rng):
        made = make_tiny(num_classes, 3, None, rng, "float32")
        made.layers[1], made.layers[-1] = minidl.Conv2d(3, 7, 3, rng=rng), minidl.Linear(7, num_classes, rng=rng)
        return made

    with pytest.raises(RunError, match=r"run cannot be started from: model 'tiny' there, .*wider.* asked"):
        Trainer(tiny_config(start_from="run", norm="none"), quiet=True, task=tiny_task(), model=wider)


def test_the_command_starts_from_another_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["tiny", "mnist", "--sample", "--batch-size", "100", "--updates", "2", "--threads", "1"]
    assert main([*args, "--out", "a", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["tiny", "svhn", *args[2:], "--from", "a", "--out", "b"]) == 0
    n = len(minidl.load("a").network.state())
    assert f"starting from {tmp_path / 'a'} after update 2: {n} of {n} arrays\n" in capsys.readouterr().out
    assert main([*args, "--norm", "bn", "--from", "a", "--out", "c"]) == 1
    err = capsys.readouterr().err
    assert "a cannot be started from: norm 'mn' there, 'bn' asked; " in err
    assert err.count("\n") == 1
    assert main(["--out", "b", "--resume", "--quiet"]) == 0
