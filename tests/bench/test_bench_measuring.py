"""How time is taken: in turn, warm-ups left out, ratios by rounds; and what a record and its drawings hold."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl.bench import plot, record, table
from minidl.bench.record import Norm
from minidl.bench.timing import Plan, Work, interleave, median, ratio

PLAN = Plan(rounds=3, rest=0.0, warm_up=2, wake=0.0, burst=0.0, calls=4)


def rounds(*values):
    """Return one call per round."""
    return [np.array([value]) for value in values]


def test_sides_take_turns_in_bursts_and_change_who_goes_first():
    calls = []
    works = {name: Work({"part": lambda name=name: calls.append(name)}) for name in "ab"}
    interleave(works, PLAN)
    assert calls == [name for side in "abbaab" for name in side * (PLAN.warm_up + PLAN.calls)]


@pytest.fixture
def pass_time(monkeypatch):
    """A clock of the test's own in place of the machine's: what is returned lets seconds pass."""
    now = [0.0]
    monkeypatch.setattr("minidl.bench.timing.time.perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_warm_up_calls_do_not_count(pass_time):
    left = iter([0.05, 0.05] + [0.0] * PLAN.calls)
    taken = interleave({"a": Work({"part": lambda: pass_time(next(left))})}, replace(PLAN, rounds=1))
    assert len(taken["a"]["part"][0]) == PLAN.calls
    assert taken["a"]["part"][0].max() == 0.0


def test_what_comes_before_a_call_is_not_timed_and_each_part_is_timed_alone(pass_time):
    work = Work({"short": lambda: None, "long": lambda: pass_time(0.02)}, before=lambda: pass_time(0.03))
    taken = interleave({"a": work}, Plan(1, 0.0, 0, 0.0, 1))["a"]
    assert median(taken["short"]) == 0.0
    assert median(taken["long"]) == pytest.approx(0.02)


def test_bursts_run_inside_their_sides_context():
    inside = []

    @contextlib.contextmanager
    def context():
        inside.append(True)
        yield
        inside.pop()

    seen = []
    works = {
        "in": Work({"part": lambda: seen.append(len(inside))}, inside=context),
        "out": Work({"part": lambda: seen.append(-len(inside))}),
    }
    interleave(works, replace(PLAN, rounds=1, warm_up=0, calls=1))
    assert seen == [1, 0]


def test_a_ratio_is_the_median_of_the_rounds_ratios_so_that_a_drift_of_the_machine_cancels():
    slow = [1.0, 2.0, 5.0]  # the machine slows down
    assert_close(ratio(rounds(*(3 * s for s in slow)), rounds(*slow)), (3, 3, 3), terms(8, 3))


def test_a_record_has_medians_quartiles_and_the_ratio_of_pytorch_over_minidl():
    row = record.record(
        "steps", "lenet step", Norm("mn", 6), 4, 2, rounds(0.001, 0.002, 0.003), rounds(0.01, 0.01, 0.012)
    )
    assert (row["norm"], row["modes"], row["batch"], row["threads"], row["unit"]) == ("mn", 6, 4, 2, "ms")
    assert_close([row["minidl_ms"], row["torch_ms"]], [2, 10], terms(8, 10))
    assert_close(row["minidl_fastest_quartile_ms"], 1.5, terms(8, 2))
    assert_close([row[name] for name in ("ratio_low", "ratio", "ratio_high")], [4.5, 5, 7.5], terms(16, 10))


@pytest.mark.parametrize("text", ["mn", "mgn", "bn2", "mn0", "mn-2", "xn", ""])
def test_norms_are_named_with_their_modes_or_refused(text):
    with pytest.raises(ValueError, match="a norm must be one of none, bn, in, ln, gn, mnK or mgnK"):
        Norm.parse(text)


def saved(path):
    """Save a header and records of three sections; return the records."""
    about = record.header(["--only", "steps"], against_torch=True, threads=2, rounds=3)
    about["versions"]["torch"] = "2.0"
    ours, theirs = rounds(0.0010, 0.0012, 0.0011), rounds(0.0031, 0.0042, 0.0029)
    records = [about]
    for norm in (Norm("bn"), Norm("mn", 2)):
        records += [record.record("steps", "lenet step", norm, n, 2, ours, theirs) for n in (4, 128)]
    records.append(record.record("layers", "ReLU 3×4×5", None, 128, 2, ours, theirs) | {"pass": "backward"})
    sizes = {
        "minidl_mib": 20.5,
        "torch_mib": 30.25,
        **record.ratio_fields(rounds(30.25), rounds(20.5), record.OURS_TO_TORCH),
    }
    records.append(record.record("memory", "lenet step", Norm("bn"), 128, 2, unit="MiB", **sizes))
    records.append(record.record("import", "import minidl", minidl_time=ours, numpy_ms=64.5))
    record.save(records, path)
    return records


def test_records_are_read_back_as_they_were_saved(tmp_path):
    records = saved(tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text("utf-8")) == json.loads(json.dumps(records))
    assert record.load(tmp_path / "bench.json") == json.loads(json.dumps(records))


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", '[{"what": "header"}, {"section": "no"}]'])
def test_another_file_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match=r"other\.json must be a file that --json wrote; measure again with --json$"):
        record.load(tmp_path / "other.json")


def test_the_table_has_a_title_a_section_and_aligned_columns(tmp_path):
    saved(tmp_path / "bench.json")
    lines = list(table.lines(record.load(tmp_path / "bench.json")))
    rows = [line.split() for line in lines]
    assert [
        "lenet",
        "step",
        "MN",
        "K=2",
        "128",
        "2",
        "1.100",
        "3.100",
        "3.10",
        "2.87-3.30",
        "PyTorch",
        "/",
        "minidl",
    ] in rows
    assert sum(line.startswith("\n") for line in lines) == 4
    text = "\n".join(lines).splitlines()
    heads = [line for line in text if "quartiles" in line]
    steps = [line for line in text if line.startswith("lenet step") and "3.100" in line]
    assert {line.index("3.100") + 5 for line in steps} == {heads[0].index("torch ms") + 8}
    assert any("ReLU 3×4×5 backward" in line for line in text)
    assert any("20.50" in line and "30.25" in line and "1.48" in line for line in text)
    assert any("import numpy: 64.50 ms" in line for line in text)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_ratios_are_drawn_from_a_saved_file(tmp_path, ending):
    saved(tmp_path / "bench.json")
    plot.draw(record.load(tmp_path / "bench.json"), tmp_path / f"bench.{ending}")
    assert (tmp_path / f"bench.{ending}").read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_without_any_ratio_there_is_nothing_to_draw(tmp_path):
    records = [record.header([], against_torch=False), record.record("steps", "lenet step", minidl_time=rounds(1.0))]
    with pytest.raises(ValueError, match="--plot needs ratios, and nothing measured has one; add --against torch"):
        plot.draw(records, tmp_path / "bench.png")
