"""What is written of the runs: against their summaries, and of incomplete tables."""

import csv
import itertools
import json
import shutil
import statistics
import struct
from dataclasses import replace

import pytest
from tiny_table import COLUMNS, SHORT, TINY

from minidl.reproduce import plan
from minidl.reproduce.__main__ import main

STEM = "table1-sample-scale0.1"
PAPER = {"BN": (30.0, 1.0), "GN": (29.0, 1.0), "MGN": (27.0, 1.0)}


DECIMALS = 1e-6  # a file has six of them


def summaries(folder):
    """Return {norm: {seed: summary}} straight from the files."""
    found = {}
    for file in folder.glob("runs/*/summary.json"):
        config = json.loads((file.parent / "config.json").read_text("utf-8"))["config"]
        column = {"bn": "BN", "mn": "MN K=2"}[config["norm"]]
        found.setdefault(column, {})[config["seed"]] = json.loads(file.read_text("utf-8"))
    return found


def read_csv(path):
    """Return its rows and its # lines."""
    lines = path.read_text("utf-8").splitlines()
    about = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    return list(csv.DictReader(line for line in lines if not line.startswith("# "))), about


def test_cells_are_mean_and_deviation_of_the_summaries(trained):
    there = summaries(trained)
    rows, _ = read_csv(trained / f"{STEM}.csv")
    assert [row["norm"] for row in rows] == ["BN", "MN K=2"]
    for row in rows:
        runs = there[row["norm"]]
        assert (int(row["seeds"]), row["row"]) == (len(runs), "N = 128") == (2, "N = 128")
        for when in ("best", "last"):
            errors = [run[when]["test_error"] for run in runs.values()]
            assert float(row[f"{when}_mean"]) == pytest.approx(statistics.mean(errors), abs=DECIMALS)
            assert float(row[f"{when}_std"]) == pytest.approx(statistics.stdev(errors), abs=DECIMALS)
            for source in ("mnist", "cifar-10", "svhn", "fashion-mnist"):
                errors = [run[when]["test_errors"][source] for run in runs.values()]
                assert float(row[f"{when}_{source}_mean"]) == pytest.approx(statistics.mean(errors), abs=DECIMALS)


def test_the_comparison_with_bn_pairs_the_seeds(trained):
    there = summaries(trained)
    rows, _ = read_csv(trained / f"{STEM}.csv")
    assert rows[0]["minus_bn_best_mean"] == rows[0]["minus_bn_best_low"] == ""
    for when in ("best", "last"):
        differences = [there["MN K=2"][s][when]["test_error"] - there["BN"][s][when]["test_error"] for s in (0, 1)]
        mean, half = statistics.mean(differences), 12.706205 * statistics.stdev(differences) / 2**0.5
        for name, value in (("mean", mean), ("low", mean - half), ("high", mean + half)):
            assert float(rows[1][f"minus_bn_{when}_{name}"]) == pytest.approx(value, abs=1e-4)  # of a printed quantile


def test_mgn_is_paired_with_gn_as_well(trained, monkeypatch):
    runs = {"BN": COLUMNS["BN"], "GN": COLUMNS["MN K=2"], "MGN": COLUMNS["BN"]}  # the runs that are there, renamed
    monkeypatch.setitem(plan.TABLES, "table1", replace(TINY, columns=runs, paper={"N = 128": PAPER}))
    assert main(["table1", "--scale", "0.1", "--seeds", "2", "--report-only", "--out", str(trained)]) == 0
    rows, _ = read_csv(trained / f"{STEM}.csv")
    for when, name in itertools.product(("best", "last"), ("mean", "low", "high")):
        other = {"mean": "mean", "low": "high", "high": "low"}[name]
        assert float(rows[2][f"minus_gn_{when}_{name}"]) == -float(rows[1][f"minus_bn_{when}_{other}"]) != 0
        assert rows[0][f"minus_gn_{when}_{name}"] == rows[1][f"minus_gn_{when}_{name}"] == ""
    section = (trained / f"{STEM}.md").read_text("utf-8").partition("## Against GN")[2].partition("\n## ")[0]
    assert section.count("| N = 128 |") == section.count("| N = 128 | MGN | 2 |") == 1
    assert "| -2.00 |" in section


def test_each_run_has_its_line(trained):
    there = summaries(trained)
    rows, _ = read_csv(trained / f"{STEM}-runs.csv")
    assert len(rows) == 4
    for row in rows:
        summary = there[row["norm"]][int(row["seed"])]
        assert float(row["best_error"]) == pytest.approx(summary["best"]["test_error"], abs=DECIMALS)
        assert float(row["last_svhn"]) == pytest.approx(summary["last"]["test_errors"]["svhn"], abs=DECIMALS)
        assert (int(row["parameters"]), float(row["seconds"])) == (summary["parameters"], summary["seconds"])
        assert (trained / "runs" / row["folder"]).is_dir()


def test_the_page_has_ours_under_the_papers(trained):
    there = summaries(trained)
    page = (trained / f"{STEM}.md").read_text("utf-8")
    assert "| N = 128 | BN | MN K=2 |" in page
    assert "| paper, best | 26.91 ± 1.08 | 23.16 ± 1.23 |" in page
    for when in ("best", "last"):
        errors = [[run[when]["test_error"] for run in there[name].values()] for name in ("BN", "MN K=2")]
        cells = [f"{statistics.mean(each):.2f} ± {statistics.stdev(each):.2f}" for each in errors]
        assert f"| minidl, {when} | {cells[0]} | {cells[1]} |" in page
    assert "| seeds | 2 | 2 |" in page
    assert "| N = 128 | MN K=2 | 5 | " in page.partition("## Use of the modes")[2]


def test_the_entropy_of_a_single_mode_is_left_out(monkeypatch, tmp_path):
    columns = {name: plan.MODES[name] for name in ("BN", "MN K=1, 2")}
    monkeypatch.setitem(plan.TABLES, "table1", replace(TINY, columns=columns, paper={}))
    assert main(["table1", *SHORT, "--seeds", "1", "--out", str(tmp_path)]) == 0
    use = (tmp_path / f"{STEM}.md").read_text("utf-8").partition("## Use of the modes")[2]
    first, second = (line.split(" | ")[3:] for line in use.splitlines() if line.startswith("| N = 128 "))
    assert first == ["1.00", "–", "– |"]
    assert len(second[0].split()) == 2
    assert "–" not in second[1:]


def test_every_output_says_where_it_comes_from_and_that_it_is_short(trained):
    page = (trained / f"{STEM}.md").read_text("utf-8")
    _, about = read_csv(trained / f"{STEM}.csv")
    _, about_runs = read_csv(trained / f"{STEM}-runs.csv")
    picture = (trained / f"{STEM}.png").read_bytes()
    assert about == about_runs
    assert about["command"] == "python -m minidl.reproduce table1 --seeds 2 --sample --scale 0.1"
    assert about["data"].startswith("mnist: 1150 of 60000 training images, 290 of 10000 test images; cifar-10: 1150")
    assert about["seeds"] == "0, 1"
    for name in ("data sha256", "trained by", "machine", "training time", "reported by"):
        assert f"- {name}: {about[name]}" in page
        assert about[name].encode("latin-1") in picture
    assert "minidl" in about["trained by"]
    assert "cores" in about["machine"]
    assert "**Shortened: each run is 0.1 of its full length" in page
    assert "Not all of the paper's training images: 1.9 % of mnist" in page


def test_the_picture_is_one(trained):
    head = (trained / f"{STEM}.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert min(struct.unpack(">II", head[16:])) > 400


def test_the_picture_has_at_most_four_rows_abreast(trained, monkeypatch):
    monkeypatch.setitem(plan.TABLES, "table1", replace(TINY, rows={name: {"batch_size": 128} for name in "abcde"}))
    assert main(["table1", "--scale", "0.1", "--seeds", "2", "--report-only", "--out", str(trained)]) == 0
    width, height = struct.unpack(">II", (trained / f"{STEM}.png").read_bytes()[16:24])
    assert (width, height) == (4 * 704, 4 * 418)  # two tiers of errors above training


def test_a_report_needs_no_data_and_says_how_many_seeds_each_cell_has(trained, capsys):
    shutil.rmtree(next(trained.glob("runs/*-bn-*-seed1-*")))
    for file in trained.glob(f"{STEM}*"):
        file.unlink()
    assert main(["table1", "--scale", "0.1", "--seeds", "3", "--report-only", "--out", str(trained)]) == 0
    page = (trained / f"{STEM}.md").read_text("utf-8")
    assert "**Incomplete: 3 of 6 runs are missing.**" in page
    assert "| seeds | 1 | 2 |" in page
    rows, about = read_csv(trained / f"{STEM}.csv")
    assert (rows[0]["best_std"], rows[1]["minus_bn_best_low"]) == ("", "")  # one run, one pair
    assert float(rows[1]["minus_bn_best_mean"]) != 0
    assert about["command"] == "python -m minidl.reproduce table1 --seeds 3 --sample --scale 0.1"
    assert "Incomplete: 3 of 6" in capsys.readouterr().out


def test_rows_without_a_run_are_named_and_left_out(trained, monkeypatch):
    rows = {"N = 128": {"batch_size": 128}, "N = 7": {"batch_size": 7}, "N = 9": {"batch_size": 9}}
    monkeypatch.setitem(plan.TABLES, "table1", replace(TINY, rows=rows))
    assert main(["table1", "--scale", "0.1", "--seeds", "2", "--report-only", "--out", str(trained)]) == 0
    page = (trained / f"{STEM}.md").read_text("utf-8")
    assert "**Incomplete: 8 of 12 runs are missing, all those of N = 7 and N = 9.**" in page
    assert page.count("N = 7") == page.count("N = 9") == 1
    rows, _ = read_csv(trained / f"{STEM}.csv")
    assert {row["row"] for row in rows} == {"N = 128"}
    width, height = struct.unpack(">II", (trained / f"{STEM}.png").read_bytes()[16:24])
    assert (width, height) == (704, 836)


def test_a_report_of_runs_from_a_gpu_needs_no_gpu(trained, monkeypatch):
    monkeypatch.setattr("minidl.backend.why_no_cupy", lambda: "there is none")
    for file in trained.glob("runs/*/config.json"):
        content = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps(content | {"config": content["config"] | {"backend": "cupy"}}))
    command = ["table1", "--scale", "0.1", "--seeds", "2", "--backend", "cupy", "--out", str(trained)]
    assert main([*command, "--report-only"]) == 0
    assert "| seeds | 2 | 2 |" in (trained / f"{STEM}.md").read_text("utf-8")
    assert main(command) == 1


def test_a_report_of_nothing_is_an_error_of_one_line(tiny, tmp_path, capsys):
    assert main(["table1", "--report-only", "--out", str(tmp_path)]) == 1
    assert main(["table1", "--report-only", *SHORT, "--out", str(tmp_path)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "has no run of this table and --scale" in first
    assert "has no finished run of this table" in second
