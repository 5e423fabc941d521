"""Configurations, spans of training, and the paper's recipe."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data import TASKS, load_task
from minidl.norm import ModeNorm
from minidl.train import Config, ConfigError, build, describe, recipe
from minidl.train.config import digest
from minidl.train.recipes import recipes
from minidl.train.span import Span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("15e", Span(Fraction(15), "epochs")),
        ("0.5e", Span(Fraction(1, 2), "epochs")),
        ("35000u", Span(Fraction(35000), "updates")),
        ("2.5M", Span(Fraction(2500000), "touches")),
        (".9k", Span(Fraction(900), "touches")),
        ("3500000", Span(Fraction(3500000), "touches")),
        ("3.5e6", Span(Fraction(3500000), "touches")),
        (" 5/7 ", Span(Fraction(5, 7), "share")),
    ],
)
def test_spans_are_read_in_every_unit(text, span):
    assert Span.parse(text) == span


@pytest.mark.parametrize("text", ["", "e", "15 e", "-3e", "nan", "inf", "1/0", "5/7e", "2.5G", "1e9999999e", "x"])
def test_what_is_no_span_is_refused_with_the_ways_to_write_one(text):
    with pytest.raises(ConfigError, match=r"is no span of training; write 15e \(epochs\), 50000u \(updates\), 2.5M"):
        Span.parse(text)


@settings(max_examples=50)
@given(updates=st.integers(1, 10**6), batches=st.integers(1, 5000), batch_size=st.integers(1, 1000))
def test_a_span_is_the_same_number_of_updates_in_every_unit(updates, batches, batch_size):
    amounts = {
        "updates": Fraction(updates),
        "touches": Fraction(updates * batch_size),
        "epochs": Fraction(updates, batches),
        "share": Fraction(updates, 10**6),
    }
    for unit, amount in amounts.items():
        assert Span(amount, unit).updates(batches, batch_size, total=10**6) == updates


def test_a_span_has_passed_with_the_update_that_completes_it():
    spans = [Span.parse(text) for text in ("128", "129", "0.25e", "2u")]
    assert [span.updates(batches=10, batch_size=128) for span in spans] == [1, 2, 3, 2]


def test_the_default_recipe_is_table_1_of_the_paper():
    config = recipe("lenet", "multitask")
    assert (config.norm, config.modes, config.norm_momentum) == ("mn", 2, 0.1)
    assert (config.batch_size, config.lr, config.momentum, config.weight_decay) == (128, 0.1, 0.0, 0.0)
    # 15 epochs of 3.5 M touches in all: drops after 2.5 M and 3.0 M
    plan = build.make_plan(config, batches=round(3.5e6 / 15 / 128))
    assert plan["epochs"] == 15
    assert plan["lr_drops_after_touches"] == pytest.approx([2.5e6, 3.0e6], rel=1e-3)


def test_the_recipes_drops_scale_with_the_run_and_given_ones_do_not():
    shorter = replace(recipe("lenet", "multitask"), length="7e")
    assert build.make_plan(shorter, batches=10)["lr_drops_after_updates"] == [50, 60]
    given_ones = replace(shorter, lr_drops=("2.56k", "65u", "3e"))
    assert build.make_plan(given_ones, batches=10)["lr_drops_after_updates"] == [20, 30, 65]


def test_every_task_has_a_recipe_that_says_where_it_comes_from():
    assert recipes()[0].config.task == "multitask"
    assert "Table 1" in recipes()[0].source
    assert all("ours" in known.source for known in recipes() if known.config.model == "lenet" and known != recipes()[0])
    assert set(TASKS) == {known.config.task for known in recipes()}
    for known in recipes():
        assert recipe(known.config.model, known.config.task) == known.config
        if known.config.model == "lenet":
            assert recipe("lenet1989", known.config.task) == replace(known.config, model="lenet1989")


@pytest.mark.parametrize("task", ["cifar10", "cifar100"])
@pytest.mark.parametrize(
    ("model", "epochs", "drops", "weight_decay"),
    [
        ("nin", 100, [65, 80], 0),
        ("vgg13", 100, [65, 80, 90], 0),
        ("resnet20", 160, [80, 120], 1e-4),
        ("resnet56", 160, [80, 120], 1e-4),
    ],
)
def test_the_recipes_of_table_3_are_the_papers(model, task, epochs, drops, weight_decay):
    config = recipe(model, task)
    assert (config.norm, config.modes, config.norm_momentum, config.norm_at) == ("mn", 2, 0.1, "all")
    assert (config.batch_size, config.lr, config.momentum, config.drop_factor) == (128, 0.1, 0.9, 0.1)
    assert (config.augment, config.weight_decay) == ("flip-crop", weight_decay)
    plan = build.make_plan(config, batches=390)
    assert (plan["epochs"], plan["lr_drops_after_updates"]) == (epochs, [390 * epoch for epoch in drops])


def test_the_first_norm_alone_is_asked_for_by_name():
    config = Config(model="resnet20", task="cifar10", norm_at="first")
    task = load_task("cifar10", sample=True, progress=False)
    rng = np.random.default_rng(0)
    net = build.make_model(config, task, rng, rng)
    kinds = [type(layer).__name__ for _, layer in net.named_layers() if hasattr(layer, "eps")]
    assert kinds == ["ModeNorm"] + ["BatchNorm"] * 18
    assert config.name() == "resnet20-cifar10-mn2first-n128-seed0"
    with pytest.raises(ConfigError, match="both factories must make norms, got None"):
        build.make_model(replace(config, norm="none"), task, rng, rng)
    assert describe.settings({"config": Config().to_json()}).keys() & {"norm_at"} == set()  # older runs stay the same


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "lenett"}, r"unknown model 'lenett'; did you mean 'lenet'\? Choose from lenet"),
        ({"task": "cifar-10"}, r"unknown task 'cifar-10'; did you mean 'cifar10'\? Choose from multitask, mnist"),
        ({"norm": "xyz"}, "unknown norm 'xyz'; choose from bn, in, ln, gn, mn, mgn, none"),
        ({"norm_at": "last"}, "unknown norm_at 'last'"),
        ({"augment": "cut"}, "unknown augment 'cut'; choose from none, flip-crop"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"backend": "jax"}, "unknown backend 'jax'; choose from numpy, numba, cupy, auto"),
        ({"modes": 0}, "--modes must be at least 1, got 0"),
        ({"groups": -1}, "--groups must be at least 1, got -1"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"eval_every": 0}, "--eval-every must be at least 1, got 0"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1, got 0"),
        ({"threads": 0}, "--threads must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"lr": 0.0}, "--lr must be positive and finite, got 0.0; try 0.1"),
        ({"lr": float("nan")}, "--lr must be positive and finite, got nan; try 0.1"),
        ({"momentum": 1.0}, r"--momentum must lie in \[0, 1\), got 1.0; try 0.9"),
        ({"weight_decay": -1.0}, "--weight-decay must be at least 0 and finite, got -1.0; try 1e-4"),
        ({"norm_momentum": 0.0}, r"--norm-momentum must lie in \(0, 1\], got 0.0; try 0.1"),
        ({"drop_factor": 0.0}, "--drop-factor must be positive and finite, got 0.0; try 0.1"),
        ({"length": "0e"}, "the length of a run must be positive and in epochs, updates or touches, got 0e"),
        ({"length": "1/2"}, "the length of a run must be positive and in epochs, updates or touches, got 1/2"),
        ({"lr_drops": ("10e", "x")}, "'x' is no span of training"),
        ({"data_dir": "d", "sample": True}, "--data-dir and --sample exclude each other"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_with_the_cure(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        Config(**changes)
    assert "\n" not in str(error.value)


def test_a_configuration_survives_json():
    config = Config(norm="gn", lr_drops=("2.5M", "12e"), data_dir="x", eval_every=3, modes=(2, 6))
    assert Config.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match="unknown configuration fields"):
        Config.from_json({"colour": "blue"})


def test_only_settings_that_decide_the_numbers_identify_a_run():
    def identity(**changes):
        return digest(describe.settings({"config": Config(**changes).to_json()}))

    assert identity() == identity(threads=5, data_dir="x", checkpoint_every=3)
    different = [{"lr": 0.2}, {"seed": 1}, {"eval_every": 3}, {"dtype": "float64"}, {"length": "14e"}, {"modes": 3}]
    assert len({identity(), *(identity(**changes) for changes in different)}) == 1 + len(different)


def test_names_of_runs_tell_them_apart():
    assert Config().name() == "lenet-multitask-mn2-n128-seed0"
    assert (
        Config(norm="gn", groups=3, sample=True, seed=4, batch_size=8).name() == "lenet-multitask-sample-gn3-n8-seed4"
    )
    assert Config(norm="bn", task="svhn").name() == "lenet-svhn-bn-n128-seed0"
    assert Config(modes=(2, 6), per_mode_affine=True, rarer="svhn/10").name() == (
        "lenet-multitask-svhn10-mn2.6affine-n128-seed0"
    )


def test_each_norm_gets_its_own_number_of_modes_and_affine_map():
    task = load_task("multitask", sample=True, progress=False)
    rng = np.random.default_rng(0)
    net = build.make_model(Config(modes=(3, 5), per_mode_affine=True), task, rng, rng)
    norms = [layer for _, layer in net.named_layers() if isinstance(layer, ModeNorm)]
    assert [layer.num_modes for layer in norms] == [3, 5]
    assert [layer.params["weight"].shape for layer in norms] == [(3, 6), (5, 16)]


@pytest.mark.parametrize("modes", [(2,), (2, 3, 4)])
def test_a_number_of_modes_for_each_norm_or_one_for_all(modes):
    task = load_task("multitask", sample=True, progress=False)
    with pytest.raises(ConfigError, match=f"one K for each norm|--modes must be one K or 2, .*got {len(modes)}"):
        build.make_model(Config(modes=modes), task, np.random.default_rng(0), np.random.default_rng(0))


def test_a_rarer_dataset_is_rarer_in_training_alone():
    task = load_task("multitask", sample=True, progress=False)
    rng = np.random.default_rng(0)
    before, test = build.make_loaders(Config(batch_size=1), task, rng)
    after, same_test = build.make_loaders(Config(batch_size=1, rarer="svhn/10"), task, rng)
    svhn = int((task.train.source == task.train.sources.index("svhn")).sum())
    assert len(before) - len(after) == svhn - -(-svhn // 10) > 10
    assert len(same_test) == len(test)
