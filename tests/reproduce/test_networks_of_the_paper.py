"""Tables 3 and 4 and Figure 2 of VGG13: their runs, the published numbers, and what is written from narrow networks."""

from dataclasses import replace
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from PIL import Image
from tolerance import assert_close, terms

from minidl.data import load_task
from minidl.models import MODELS
from minidl.reproduce import provenance, published
from minidl.reproduce.__main__ import main
from minidl.reproduce.figure2_vgg13 import LAYERS, apart, image_statistics, vgg13_runs, write_vgg13
from minidl.reproduce.plan import TABLES, runs
from minidl.reproduce.report import write_table
from minidl.reproduce.store import Store
from minidl.train import Trainer, recipe
from minidl.train.describe import describe_data

TABLE3 = pytest.mark.parametrize(("name", "task"), [("table3", "cifar10"), ("table3-cifar100", "cifar100")])


@TABLE3
def test_table_3_is_each_networks_own_recipe_with_bn_and_with_two_modes(name, task):
    planned = runs(TABLES[name], 2, Decimal(1))
    assert len(planned) == len({run.config for run in planned}) == 12
    for run in planned:
        own = recipe(run.row.lower(), task)
        norm = {"BN": "bn", "MN": "mn"}[run.column]
        assert run.config == replace(own, norm=norm, modes=2, seed=run.seed)


@TABLE3
def test_scale_shortens_each_row_of_table_3(name, task):
    lengths = {run.row: run.config.length for run in runs(TABLES[name], 1, Decimal("0.1"))}
    assert lengths == {"NIN": "10e", "VGG13": "10e", "ResNet20": "16e"}


def test_the_published_numbers_of_tables_3_and_4_have_the_papers_sums():
    sums = {task: [0.0, 0.0] for task in published.TABLE3}
    for task, rows in published.TABLE3.items():
        for row in rows.values():
            for i, column in enumerate(("BN", "MN")):
                sums[task][i] += row[column][0]
    assert_close(sums["cifar10"], [25.54, 24.20], terms(8, 25.54))
    assert_close(sums["cifar100"], [95.01, 92.25], terms(8, 95.01))
    assert published.TABLE3["cifar100"]["VGG13"]["MN"] == (30.06, None)
    assert published.TABLE4["top-5"] == {"BN": (10.90, None), "MN": (10.65, None)}
    for name in ("table3", "table3-cifar100", "table4"):
        table = TABLES[name]
        assert list(table.paper) == list(table.rows)
        assert all(list(row) == list(table.columns) for row in table.paper.values())


def test_table_4_trains_one_run_for_both_of_its_rows():
    planned = runs(TABLES["table4"], 1, Decimal(1))
    assert [(run.row, run.column) for run in planned] == [("top-1", "BN"), ("top-1", "MN")]
    for run in planned:
        assert run.config == replace(recipe("resnet18", "imagenet"), norm=run.config.norm)
        assert (run.config.batch_size, run.config.length, run.config.weight_decay) == (256, "90e", 1e-4)


@pytest.fixture
def images(tmp_path):
    """Seven classes of three training images and one test image, 33 pixels wide."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for label in range(7):
            place = tmp_path / "images" / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (33, 33, 3), np.uint8)).save(place / f"{i}.png")
    return tmp_path / "images"


def test_table_4_of_a_part_says_so_and_is_not_compared_and_the_whole_is(images, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "resnet18", partial(MODELS["resnet18"], width=2))
    table = TABLES["table4"]
    table = replace(table, config=replace(table.config, batch_size=5, length="4u", threads=1))
    planned = runs(table, 1, Decimal(1), image_size=33, data_dir=str(images), backend="numpy")
    task = load_task("imagenet", images, image_size=33, workers=1)
    data, store = describe_data(task), Store(tmp_path / "out")
    last = {}
    for run in planned:
        summary = Trainer(run.config, store.path_of(run.config, data), quiet=True, task=task).run()
        last[run.column] = summary["last"]
    write_table(table, planned, store, data, "command", Decimal(1), "part")
    page = (tmp_path / "out" / "part.md").read_text("utf-8")
    assert page.startswith("# Table 4: ResNet18 on ILSVRC12, on 0.0016 % of imagenet alone: not the paper's\n")
    assert "imagenet: 21 of 1281167 training images, 7 test images" in page
    assert "30.25" not in page
    monkeypatch.setattr(provenance, "ILSVRC12", 21)
    whole, _ = write_table(table, planned, store, data, "command", Decimal(1), "whole")
    page = (tmp_path / "out" / "whole.md").read_text("utf-8")
    assert page.startswith("# Table 4: ResNet18 on ILSVRC12, minidl beside the paper\n")
    assert "| paper, best | 30.25 | 30.07 |" in page
    assert "| paper, best | 10.90 | 10.65 |" in page
    lasts = [line for line in whole.splitlines() if line.startswith("| minidl, last")]
    assert lasts == [
        f"| minidl, last | {last['BN'][field]:.2f} | {last['MN'][field]:.2f} |"
        for field in ("test_error", "test_error_top5")
    ]


def test_statistics_of_an_image_are_the_ones_they_are_called():
    rng = np.random.default_rng(1)
    images = np.full((3, 3, 9, 9), 60, np.uint8)
    images[1, 0] = 160
    images[2, :, 3:6, 3:7] = rng.integers(180, 256, (3, 3, 4))
    got = image_statistics(images)
    values = terms(images[0].size, 1)
    assert_close(got["red over blue"][:2], [0, 100 / 255], values)
    assert_close(got["brightness"], images.mean(axis=(1, 2, 3)) / 255, values)
    assert_close(got["object size"], [0, 0, 12 / 81], values)


def test_modes_are_as_far_apart_as_their_weighted_means():
    rng = np.random.default_rng(2)
    gates, values = rng.dirichlet([1, 1, 1], 7), rng.normal(size=7)
    want = [sum(gates[n, k] * values[n] for n in range(7)) / gates[:, k].sum() for k in range(3)]
    size = np.abs(values).max() / values.std()
    assert_close(apart(gates, values), (np.array(want) - values.mean()) / values.std(), terms(64, size))


def test_figure_2_of_vgg13_looks_into_its_run_of_table_3_at_the_norms_of_the_paper():
    (run,) = vgg13_runs(Decimal(1), "cifar10")
    assert run in runs(TABLES["table3"], 1, Decimal(1))
    assert (run.config.model, run.config.norm, run.config.modes) == ("vgg13", "mn", 2)
    net = MODELS["vgg13"](10, width=2)
    convs = [i for i, layer in enumerate(net.layers) if type(layer).__name__ == "Conv2d"]
    # a network without norms has one layer less a convolution: the k-th norm would stand k + 1 places later
    assert [str(convs[k] + k + 1) for k in (0, 4)] == list(LAYERS)
    assert [net.layers[convs[k]].params["weight"].shape[0] // 2 * 64 for k in (0, 4)] == [64, 256]


def test_figure_2_of_vgg13_is_drawn_and_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "vgg13", partial(MODELS["vgg13"], width=2))
    task = load_task("cifar10", sample=True, progress=False)
    data, store = describe_data(task), Store(tmp_path)
    planned = vgg13_runs(Decimal(1), "cifar10", sample=True, threads=1, backend="numpy")
    planned = [replace(run, config=replace(run.config, length="3u", batch_size=16)) for run in planned]
    Trainer(planned[0].config, store.path_of(planned[0].config, data), quiet=True, task=task).run()
    table, files = write_vgg13(planned, store, task, data, "command", Decimal(1), "figure2-vgg13-cifar10")
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| conv")]
    assert [(row[0], row[1]) for row in rows] == [
        (f"| {name}", str(mode)) for name in ("conv3-64-1", "conv3-256-1") for mode in (1, 2)
    ]
    for first, second in (rows[:2], rows[2:]):
        g, h = float(first[2]), float(second[2])
        assert g + h == pytest.approx(1, abs=0.002)  # the table has three decimals
        for i in (3, 4, 5):  # what is above the mean in one mode is below it in the other
            assert g * float(first[i]) + h * float(second[i]) == pytest.approx(0, abs=0.002)
    assert {path.name for path in files} == {
        f"figure2-vgg13-cifar10{end}" for end in ("-images.png", "-images.csv", ".csv", ".md")
    }
    assert all(path.stat().st_size > 500 for path in files)
    lines = (tmp_path / "figure2-vgg13-cifar10-images.csv").read_text("utf-8").splitlines()
    assert sum(",conv3-64-1," in line for line in lines) == 20


def test_the_data_of_a_figure_goes_with_vgg13(capsys):
    assert main(["figure2", "--data", "cifar10", "--dry-run"]) == 1
    assert "--data cifar10 goes with --model vgg13" in capsys.readouterr().err


def test_one_command_asks_for_each(capsys, tmp_path):
    commands = [("table3",), ("figure2", "--model", "vgg13", "--data", "cifar10")]
    for command in commands:
        assert main([*command, "--sample", "--scale", "0.01", "--dry-run", "--out", str(tmp_path)]) == 0
        assert "VGG13, MN, seed 0" in capsys.readouterr().out
