"""Optimisers, schedules, warmup and label smoothing of a run: what they do, that they resume, what is refused."""

import json
import math

import pytest
from tiny_run import TOTAL, result, tiny_config, tiny_task, train
from tolerance import assert_close, terms

from minidl import SGD, Adam, AdamW
from minidl.train import Config, ConfigError, Trainer, recipe
from minidl.train.__main__ import main
from minidl.train.rules import ignored

pytestmark = pytest.mark.usefixtures("no_curves")

RULES = [
    {"optimiser": "adam", "lr": 0.01, "schedule": "cosine", "warmup": "3u"},
    {"optimiser": "adamw", "lr": 0.01, "schedule": "constant", "label_smoothing": 0.2},
    {"nesterov": True, "warmup": "1/4", "label_smoothing": 0.1},
]


def rates(monkeypatch, kind=SGD, **changes):
    """Return the learning rate of each update."""
    seen, step = [], kind.step
    monkeypatch.setattr(kind, "step", lambda self: (seen.append(self.lr), step(self)))
    train(None, **changes)
    return seen


@pytest.mark.parametrize("changes", RULES, ids=str)
@pytest.mark.parametrize("stop", [1, 2, 4, 9, 13])
def test_a_run_by_any_rule_resumed_is_the_uninterrupted_run(tmp_path, changes, stop):
    train(tmp_path / "whole", **changes)
    train(tmp_path / "cut", until=stop, **changes)
    assert train(tmp_path / "cut", resume=True, **changes).step == TOTAL
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW)])
def test_the_optimiser_is_the_one_asked_for_with_its_settings(name, kind):
    nesterov = name == "sgd"
    config = tiny_config(optimiser=name, betas=(0.7, 0.8), eps=1e-3, weight_decay=0.2, nesterov=nesterov)
    optimiser = Trainer(config, quiet=True, task=tiny_task()).optimiser
    assert type(optimiser) is kind
    assert (optimiser.lr, optimiser.weight_decay) == (0.05, 0.2)
    if nesterov:
        assert (optimiser.momentum, optimiser.nesterov) == (0.9, True)
    else:
        assert (optimiser.betas, optimiser.eps) == ((0.7, 0.8), 1e-3)


def test_a_constant_schedule_is_constant_and_has_no_drops(monkeypatch):
    assert rates(monkeypatch, schedule="constant") == [0.05] * TOTAL


def test_a_cosine_falls_from_the_rate_towards_0_at_the_end(monkeypatch):
    expected = [0.05 * (1 + math.cos(math.pi * t / TOTAL)) / 2 for t in range(TOTAL)]
    assert_close(rates(monkeypatch, schedule="cosine"), expected, terms(8, 0.05))


@pytest.mark.parametrize(("warmup", "updates"), [("4u", 4), ("2/7", 4), ("1e", 6), ("12", 3)])
def test_a_warmup_climbs_from_a_tenth_over_its_updates(monkeypatch, warmup, updates):
    seen = rates(monkeypatch, Adam, optimiser="adam", schedule="constant", warmup=warmup)
    expected = [0.05 * (0.1 + 0.9 * min(t, updates) / updates) for t in range(TOTAL)]
    assert_close(seen, expected, terms(8, 0.05))


def test_the_loss_that_is_trained_on_is_smoothed_and_that_of_an_evaluation_is_not():
    """The logits are (3, 0, 0, 0) for every image, so the losses depend on how many are of class 0 alone."""
    trainer = Trainer(tiny_config(label_smoothing=0.2, length="1u", lr=1e-30), quiet=True, task=tiny_task())
    last = trainer.model.layers[-1]
    last.params["weight"][...] = 0
    last.params["bias"][...] = [3.0, 0, 0, 0]
    found = trainer.run()["last"]
    ((_, labels, _),) = trainer._test_loader
    log_sum = math.log(math.exp(3) + 3)
    rounded = terms(16, log_sum, "float32")
    assert_close(found["test_loss"], log_sum - 3 * (labels == 0).mean(), rounded)
    choices = [log_sum - 0.2 * 3 / 4 - 0.8 * 3 * count / 4 for count in range(5)]  # by how many of 4 images are class 0
    assert_close(found["train_loss"], min(choices, key=lambda choice: abs(choice - found["train_loss"])), rounded)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"norm": "bn", "modes": 7}, "--modes 7 is ignored: --norm bn has no use for it, mn and mgn have"),
        (
            {"norm": "ln", "norm_momentum": 0.3},
            "--norm-momentum 0.3 is ignored: --norm ln has no use for it, bn and mn have",
        ),
        ({"norm": "mn", "groups": 4}, "--groups 4 is ignored: --norm mn has no use for it, gn has"),
        ({"norm": "bn", "modes": (2, 6)}, "--modes 2,6 is ignored: --norm bn has no use for it, mn and mgn have"),
        ({"norm": "gn", "per_mode_affine": True}, "--per-mode-affine is ignored: --norm gn has no use for it, mn has"),
        ({"betas": (0.5, 0.9)}, "--betas 0.5,0.9 is ignored: --optimiser sgd has no use for it, adam and adamw have"),
        (
            {"optimiser": "adam", "nesterov": True},
            "--nesterov is ignored: --optimiser adam has no use for it, sgd has",
        ),
        (
            {"schedule": "cosine", "lr_drops": ("3u",)},
            "--lr-drops 3u is ignored: --schedule cosine has no use for it, step has",
        ),
    ],
    ids=str,
)
def test_a_setting_without_effect_is_named(changes, line):
    assert ignored(Config(**changes), Config(), recipe()) == [line]


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "mgn", "modes": 5}, {"optimiser": "adam", "momentum": 0.0}, {"schedule": "cosine", "lr_drops": ()}],
    ids=str,
)
def test_settings_that_are_used_or_usual_are_not_named(changes):
    assert ignored(Config(**changes), Config(), recipe()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betas": (0.9, 1.0)}, r"--betas must be two in \[0, 1\), got 0.9,1.0; try 0.9,0.999"),
        ({"betas": (0.9,)}, r"--betas must be two in \[0, 1\), got 0.9; try"),
        ({"betas": 0.9}, "--betas must be"),
        ({"eps": 0.0}, "--eps must be positive and finite, got 0.0; try 1e-8"),
        ({"label_smoothing": 1.0}, r"--label-smoothing must lie in \[0, 1\), got 1.0; try 0.1"),
        ({"nesterov": True, "momentum": 0.0}, "--nesterov must be used with a momentum, got --momentum 0; try"),
        ({"warmup": "soon"}, "'soon' is no span of training"),
        ({"optimiser": "adm"}, "unknown optimiser 'adm'; did you mean 'adam'"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; choose from constant, step, cosine"),
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_followed_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config(**changes)


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match="--warmup must be at most the run's 14 updates, got 15; shorten it"):
        train(None, warmup="15u")


COMMAND = ["lenet", "mnist", "--sample", "--updates", "4", "--batch-size", "8", "--out", "run", "--quiet"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--optimiser", "adam"], {"lr": 0.001, "weight_decay": 0.0}),
        (["--optimiser", "adamw", "--lr", "0.01"], {"lr": 0.01, "weight_decay": 0.01}),
        (["--nesterov", "--warmup", "2"], {"lr": 0.1, "nesterov": True, "warmup": "2u"}),
    ],
)
def test_the_command_takes_what_usually_goes_with_an_optimiser(tmp_path, monkeypatch, flags, expected):
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, *flags]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]
    assert {name: config[name] for name in expected} == expected
    assert main(["--resume", "--out", "run", "--quiet"]) == 0


def test_a_run_from_before_these_settings_resumes(tmp_path, uninterrupted):
    train(tmp_path / "run", until=7)
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text("utf-8"))
    for name in ("optimiser", "nesterov", "betas", "eps", "schedule", "warmup", "label_smoothing"):
        del content["config"][name]
    path.write_text(json.dumps(content))
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted
