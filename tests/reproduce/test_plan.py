"""Which runs a table needs, in which order, with which settings."""

from dataclasses import replace
from decimal import Decimal

import pytest

from minidl.reproduce.figure2 import figure2_runs
from minidl.reproduce.plan import TABLES, runs
from minidl.reproduce.run_process import train_arguments
from minidl.train import recipe
from minidl.train.__main__ import _configuration, make_parser
from minidl.train.build import make_plan

ALL = [(name, run) for name, table in TABLES.items() for run in runs(table, 2, Decimal(1))]


def test_all_columns_of_a_seed_come_before_the_next_seed():
    planned = runs(TABLES["table2"], 3, Decimal(1))
    assert [run.seed for run in planned] == [0] * 12 + [1] * 12 + [2] * 12
    assert len({(run.row, run.column) for run in planned[:12]}) == 12


@pytest.mark.parametrize(("name", "count"), [("table1", 6), ("table2", 12), ("table5", 12)])
def test_a_table_has_a_run_for_every_cell_and_seed(name, count):
    planned = runs(TABLES[name], 5, Decimal(1))
    assert len(planned) == len({run.config for run in planned}) == 5 * count


def test_table_1_and_5_are_15_epochs_at_the_papers_rate_with_its_drops():
    for name in ("table1", "table5"):
        for run in runs(TABLES[name], 1, Decimal(1)):
            c = run.config
            assert (c.model, c.task, c.length, c.lr, c.drop_factor) == ("lenet", "multitask", "15e", 0.1, 0.1)
            assert (c.lr_drops, c.norm_momentum, c.batch_size) == (
                ("5/7", "6/7"),
                0.1,
                int(run.row.removeprefix("N = ")),
            )


def test_our_own_tables_differ_from_table_1_in_what_their_rows_and_columns_name():
    bn = runs(TABLES["table1"], 1, Decimal(1))[0].config
    rarer = [run for run in runs(TABLES["unbalanced"], 1, Decimal(1)) if run.column == "BN"]
    assert [run.config for run in rarer] == [
        replace(bn, rarer=f"{name}/10") for name in ("mnist", "cifar-10", "svhn", "fashion-mnist")
    ]
    modes = {run.column: run.config for run in runs(TABLES["modes"], 1, Decimal(1))}
    assert modes["MN K=1, 2"] == replace(bn, norm="mn", modes=(1, 2))
    assert modes["MN K=2 per-mode affine"] == replace(bn, norm="mn", per_mode_affine=True)
    assert modes["BN"] == runs(TABLES["tried"], 1, Decimal(1))[0].config == bn


def test_modes_that_are_found_stand_beside_the_papers_and_the_best_fixed_ones():
    bn = runs(TABLES["table1"], 1, Decimal(1))[0].config
    auto = {run.column: run.config for run in runs(TABLES["auto"], 1, Decimal(1))}
    assert auto["BN"] == bn
    assert auto["MN K=2, 6"] == replace(bn, norm="mn", modes=(2, 6))
    for by, column in (("entropy", "entropy"), ("prune", "pruned"), ("split", "split")):
        assert auto[f"MN auto, {column}"] == replace(bn, norm="mn", modes="auto", auto_by=by)
    deep = {run.column: run.config for run in runs(TABLES["auto-resnet20"], 1, Decimal(1))}
    assert deep["MN auto, split"] == replace(recipe("resnet20", "cifar10"), modes="auto", auto_by="split")


def test_each_cure_of_a_collapse_is_one_change_of_the_papers_form_compared_with_it():
    for name, config in (
        ("collapse", replace(recipe(), momentum=0.9)),
        ("collapse-resnet20", recipe("resnet20", "cifar10")),
    ):
        found = {run.column: run.config for run in runs(TABLES[name], 1, Decimal(1))}
        assert found["MN K=2"] == replace(config, norm="mn", modes=2)
        assert found["MN, input normalised"] == replace(config, gate_input="normalised")
        assert found["MN, Ψ's rate × 0.1"] == replace(config, gate_lr=0.1)
        assert found["MN, Ψ's decay 0.01"] == replace(config, gate_weight_decay=0.01)
        assert found["MN, temperature 10"] == replace(config, gate_temperature=10.0)
        assert TABLES[name].compared["MN K=2"] == [column for column in found if column not in ("BN", "MN K=2")]


def test_momentum_is_the_only_difference_of_its_table_1():
    both = [runs(TABLES[name], 2, Decimal(1)) for name in ("table1", "table1-momentum")]
    for run, other in zip(*both, strict=True):
        assert run.config.momentum == 0
        assert other == replace(run, config=replace(run.config, momentum=0.9))


def test_table_2_is_50000_updates_with_drops_after_35000_and_42500():
    for run in runs(TABLES["table2"], 1, Decimal(1)):
        plan = make_plan(run.config, batches=243257 // run.config.batch_size)
        assert (plan["updates"], plan["lr_drops_after_updates"]) == (50000, [35000, 42500])
        assert run.config.lr == 0.02


def test_columns_are_the_norms_they_are_called():
    norms = {run.column: (run.config.norm, run.config.modes, run.config.groups) for _, run in ALL}
    assert {name: norm for name, (norm, _, _) in norms.items()} == {
        "BN": "bn",
        "IN": "in",
        "LN": "ln",
        "GN": "gn",
        "MGN": "mgn",
        **{name: "mn" for name in norms if name.startswith("MN")},
    }
    assert [norms[name][1] for name in ("MN K=2", "MN K=4", "MN K=6", "MN", "MGN")] == [2, 4, 6, 2, 2]
    assert norms["GN"][2] == 2


@pytest.mark.parametrize(("scale", "length"), [("1", "50000u"), ("0.1", "5000u"), ("1e-5", "0.5u")])
def test_scale_shortens_updates_and_nothing_else(scale, length):
    whole = runs(TABLES["table2"], 1, Decimal(1))[0].config
    assert runs(TABLES["table2"], 1, Decimal(scale))[0].config == replace(whole, length=length)


def test_scale_shortens_epochs():
    assert runs(TABLES["table1"], 1, Decimal("0.1"))[0].config.length == "1.5e"


def test_figure_2_looks_into_runs_of_table_1():
    table1 = runs(TABLES["table1"], 1, Decimal(1))
    looked = figure2_runs(Decimal(1))
    assert [run.column for run in looked] == ["MN K=2", "MN K=4", "MN K=6"]
    assert all(run in table1 for run in looked)
    others = figure2_runs(Decimal(1), "table1-momentum")
    assert others == [replace(run, config=replace(run.config, momentum=0.9)) for run in looked]


OTHER = replace(
    recipe(), length="2.5k", lr_drops=(), weight_decay=1e-4, augment="flip-crop", sample=True, dtype="float64"
)


@pytest.mark.parametrize(
    "config",
    [run.config for _, run in ALL[::5]]
    + [OTHER, replace(OTHER, lr_drops=("3u", "0.5e"), sample=False, data_dir="a b")],
)
def test_the_train_command_of_a_run_means_its_configuration(config):
    args = make_parser().parse_args([*train_arguments(config), "--backend", "numpy"])
    read, _ = _configuration(args)
    assert replace(read, backend=None) == replace(config, backend=None)
