"""Runs that find the number of modes: interrupted, resumed, loaded, exported, evaluated, started from, on a device."""

import json
from dataclasses import replace

import numpy as np
import pytest
import strict
from run_rounding import numbers, run_rounding
from tiny_run import TOTAL, result, tiny_config, tiny_task, train
from tolerance import assert_close

import minidl
from minidl.auto import prune, split
from minidl.norm.select import mode_norms
from minidl.reproduce.store import run_hash
from minidl.train import Config, ConfigError, RunError, Trainer, checkpoint, recipe
from minidl.train.__main__ import main
from minidl.train.checkpoint import CheckpointError
from minidl.train.recipes import folder_name
from minidl.train.rules import ignored

pytestmark = pytest.mark.usefixtures("no_curves")

WAYS = ("entropy", "prune", "split")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Let modes come and go within 14 updates."""
    monkeypatch.setattr(prune, "FADE", 8.0)
    monkeypatch.setattr(split, "CLEAR", -1e9)


def auto(by, **changes):
    settings = {"modes": "auto", "auto_by": by, "auto_window": "2u", "auto_until": "9u", "auto_strength": 0.3}
    threshold = 0.0 if by == "split" else 0.26
    return {**settings, "max_modes": 4, "auto_threshold": threshold, "optimiser": "sgd", **changes}


def modes_of(trainer):
    return [layer.num_modes for layer in mode_norms(trainer.model).values()]


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
def test_an_interrupted_run_is_the_uninterrupted_one(tmp_path, by, backend):
    if backend == "numba":
        pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    with strict.as_cupy():
        whole = train(tmp_path / "whole", **auto(by, backend=backend))
        first = 1 if by == "split" else 4
        assert modes_of(whole) != [first], "else nothing is shown here"
        seen = {line["modes"]["2"] for line in whole.history}
        assert len(seen) > 1
        for stop in (1, 3, 4, 6, 8, 9, 12):
            train(tmp_path / str(stop), until=stop, **auto(by, backend=backend))
            assert train(tmp_path / str(stop), resume=True, **auto(by, backend=backend)).step == TOTAL
            assert result(tmp_path / str(stop)) == result(tmp_path / "whole"), stop


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_it_is_so_with_every_optimiser(tmp_path, by, optimiser):
    changes = auto(by, optimiser=optimiser, lr=0.01, gate_lr=0.5, gate_weight_decay=0.1, gate_input="normalised")
    train(tmp_path / "whole", **changes)
    train(tmp_path / "run", until=7, **changes)
    train(tmp_path / "run", resume=True, **changes)
    assert result(tmp_path / "run") == result(tmp_path / "whole")


@pytest.mark.parametrize("by", WAYS)
def test_a_device_finds_the_modes_that_numpy_finds(by):
    changes = auto(by, dtype="float64")
    with strict.as_cupy():
        runs = [train(None, **changes, backend=backend) for backend in ("cupy", "numpy")]
    ours, theirs = ([line["modes"] for line in run.history] for run in runs)
    assert ours == theirs
    got, want, allowed = *map(numbers, runs), run_rounding(tiny_config(**changes), tiny_task())
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert_close(value, want[name], allowed[name], name)
        assert np.abs(want[name]).max() > 100 * allowed[name], f"{name}: a vacuous value"


def test_the_number_of_modes_of_each_layer_is_logged_at_every_evaluation(tmp_path):
    train(tmp_path / "run", **auto("prune"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 14]
    for line in lines:
        assert line["modes"] == {"2": len(line["gates"]["2"]["usage"])}
    train(tmp_path / "fixed")
    assert "modes" not in (tmp_path / "fixed" / "metrics.jsonl").read_text("utf-8")


def finished(tmp_path, by="prune", model="lenet"):
    """Return a run on the sample whose two norms end with different numbers of modes."""
    out = tmp_path / by
    config = replace(recipe(model, "mnist"), sample=True, length="30u", batch_size=16, seed=1, threads=1)
    config = replace(config, **auto(by, auto_until="20u", auto_threshold=0.0 if by == "split" else 0.24))
    Trainer(config, out, quiet=True).run()
    return out


@pytest.mark.parametrize("by", WAYS)
def test_a_network_with_different_modes_a_layer_is_loaded_evaluated_and_exported(tmp_path, capsys, by):
    out = finished(tmp_path, by)
    last = json.loads((out / "summary.json").read_text("utf-8"))["last"]
    net = minidl.load(out)
    found = {path: layer.num_modes for path, layer in mode_norms(net.network).items()}
    assert found == last["modes"]
    assert len(set(found.values())) == 2, "else nothing is shown here"
    x = np.random.default_rng(0).integers(0, 256, (3, *net.shape)).astype(np.uint8)
    assert net.predict(x).probabilities.shape == (3, 10)

    from minidl.evaluate.__main__ import main as evaluate

    assert evaluate([str(out), "--sample"]) == 0
    assert f"{last['test_error']:.2f}" in capsys.readouterr().out
    newest = checkpoint.list_steps(out / "checkpoints")[-1]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    lone = folder / newest.name
    lone.write_bytes(newest.read_bytes())
    again = minidl.load(lone)
    np.testing.assert_array_equal(again.predict(x).probabilities, net.predict(x).probabilities)

    from minidl.export.__main__ import main as export

    assert export([str(out), "--safetensors", str(tmp_path / "net.safetensors")]) == 0
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minidl[onnx]'")
    assert export([str(out), "--onnx", str(tmp_path / "net.onnx")]) == 0


def test_a_run_starts_from_one_that_found_its_modes(tmp_path):
    out = finished(tmp_path)
    found = json.loads((out / "summary.json").read_text("utf-8"))["last"]["modes"]
    config = replace(recipe("lenet", "mnist"), sample=True, length="1u", batch_size=16, threads=1, start_from=out)
    config = replace(config, **auto("prune", max_modes=4))
    trainer = Trainer(config, quiet=True)
    assert {path: layer.num_modes for path, layer in mode_norms(trainer.model).items()} == found
    trainer.run()
    with pytest.raises(RunError, match=r"cannot be started from: layer \d must have 1 to 1 modes, got \d; give"):
        Trainer(replace(config, max_modes=1), quiet=True)
    with pytest.raises(RunError, match="modes"):
        Trainer(replace(config, modes=4), quiet=True)


def test_a_checkpoint_with_more_modes_than_there_can_be_is_refused(tmp_path):
    train(tmp_path / "run", until=4, **auto("prune"))
    path = checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1]
    tensors, meta = checkpoint.load(path)
    for count in (5, 0):
        tensors["model.2.gate.bias"] = np.zeros(count, np.float32)
        checkpoint.save(path.parent, meta.pop("step"), tensors, meta)
        message = f"does not fit the run .layer 2 must have 1 to 4 modes, got {count}.; no whole checkpoint is left"
        with pytest.raises(CheckpointError, match=message):
            train(tmp_path / "run", resume=True, **auto("prune"))
        meta["step"] = 4


@pytest.mark.parametrize("state", [None, {}, {"2": {"fading": [9], "batches": 0}}, {"2": {}}])
def test_a_checkpoint_whose_state_of_modes_is_damaged_is_refused(tmp_path, state):
    train(tmp_path / "run", until=4, **auto("prune"))
    path = checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1]
    tensors, meta = checkpoint.load(path)
    step = meta.pop("step")
    checkpoint.save(path.parent, step, tensors, meta | {"auto": state})
    with pytest.raises(CheckpointError, match="does not fit the run"):
        train(tmp_path / "run", resume=True, **auto("prune"))


def test_modes_are_not_found_for_a_norm_whose_modes_are_never_empty():
    with pytest.raises(ConfigError, match="--modes auto must go with --norm mn, whose gates can be 0, got --norm mgn"):
        Config(norm="mgn", modes="auto")


def test_an_optimiser_of_ones_own_that_cannot_follow_is_refused():
    class Own:
        lr = 0.05

        def step(self):
            pass

        state = load_state = step

        def __init__(self, model):
            self.zero_grad = model.zero_grad

    with pytest.raises(ConfigError, match="--modes auto: AutoModes: optimiser must have follow"):
        Trainer(tiny_config(**auto("prune")), quiet=True, task=tiny_task(), optimiser=Own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_by": "chance"}, "unknown auto_by 'chance'"),
        ({"gate_input": "none"}, "unknown gate_input 'none'"),
        ({"max_modes": 0}, "--max-modes must be at least 1, got 0"),
        ({"auto_threshold": 1.0}, r"--auto-threshold must lie in \[0, 1\), got 1.0; try 0.05"),
        ({"auto_strength": -1}, "--auto-strength must be at least 0 and finite, got -1.0; try 0.01"),
        ({"gate_lr": float("inf")}, "--gate-lr must be at least 0 and finite, got inf; try 0.1"),
        ({"gate_weight_decay": -1}, "--gate-weight-decay must be at least 0 and finite, got -1.0; try 1e-3"),
        ({"gate_temperature": 0}, "--gate-temperature must be positive and finite, got 0.0; try 2"),
        ({"auto_window": "often"}, "'often' is no span of training"),
        ({"modes": "some"}, "--modes must be a whole number, got 'some'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_the_cure(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config(**changes)


def test_settings_without_effect_are_named():
    assert ignored(Config(max_modes=4, auto_by="split"), Config()) == [
        "--max-modes 4 is ignored: --modes 2 has no use for it, auto has",
        "--auto-by split is ignored: --modes 2 has no use for it, auto has",
    ]
    assert ignored(Config(norm="bn", gate_lr=0.1), Config()) == [
        "--gate-lr 0.1 is ignored: --norm bn has no use for it, mn and mgn have"
    ]
    assert ignored(Config(modes="auto", auto_by="split", auto_strength=0.5), Config()) == [
        "--auto-strength 0.5 is ignored: --auto-by split has no use for it, entropy has"
    ]


def test_the_papers_form_is_the_default_and_its_runs_keep_their_names():
    paper = Config(gate_input="plain", gate_lr=1.0, gate_temperature=1.0, gate_weight_decay=None)
    assert run_hash(paper, {}) == run_hash(Config(), {}) != run_hash(Config(gate_input="normalised"), {})
    names = {Config(modes="auto", auto_by=by).name() for by in WAYS}
    assert names == {f"lenet-multitask-mnauto8{by}-n128-seed0" for by in WAYS}
    assert folder_name(replace(recipe(), modes="auto", gate_input="normalised")).endswith("-gateinputnormalised")


def test_the_command_finds_modes_and_resumes(tmp_path, capsys):
    args = ["lenet", "mnist", "--sample", "--updates", "6", "--batch-size", "8", "--threads", "1"]
    flags = ["--modes", "auto", "--max-modes", "3", "--auto-by", "entropy", "--auto-strength", "0.1"]
    flags += ["--auto-threshold", "0.2", "--auto-window", "2", "--auto-until", "1/2", "--gate-input", "normalised"]
    flags += ["--gate-lr", "0.5", "--gate-weight-decay", "0.01", "--gate-temperature", "2"]
    assert main([*args, *flags, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.count(" %; modes 3 3") == 3, "at the evaluation, of the last and of the best"
    assert main(["--resume", "--epochs", "1", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]
    assert (config["modes"], config["auto_window"], config["gate_temperature"]) == ("auto", "2u", 2.0)
    with pytest.raises(SystemExit):
        main([*args, "--modes", "many"])
    assert "must be a whole number, several or auto, such as 2 or 2,6, got 'many'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "moved"),
    [({"gate_lr": 0.0, "gate_weight_decay": 0.0}, False), ({"gate_lr": 0.5}, True), ({"gate_weight_decay": 0.3}, True)],
)
def test_the_gates_have_a_rate_and_a_decay_of_their_own(changes, moved):
    config = tiny_config(**changes)
    before = Trainer(config, quiet=True, task=tiny_task()).model.state()
    after = train(None, **changes).model.state()
    plain = train(None).model.state()
    for name in ("2.gate.weight", "2.gate.bias"):
        assert not np.array_equal(after[name], plain[name])
        assert np.array_equal(after[name], before[name]) != moved
    assert not np.array_equal(after["2.weight"], before["2.weight"])
