"""`python -m minidl.parity` over the stand-in for CuPy: agreement, planted errors, and its answers to mistakes."""

import json

import numpy as np
import pytest
import strict

from minidl import BatchNorm, Linear, MaxPool2d, ReLU, Sequential
from minidl.backend import default_name
from minidl.parity.__main__ import main
from minidl.parity.cases import GROUPS, cases
from minidl.parity.compare import compare, error, side
from minidl.parity.kinks import distance_to_kinks
from minidl.parity.rounding import STEP, Moves, conditions
from minidl.parity.subjects import DTYPES


@pytest.fixture
def cupy():
    """Let `import cupy` give the stand-in."""
    with strict.as_cupy():
        yield


@pytest.mark.parametrize(
    ("dtype", "groups"),
    [("float32", ["layers", "norms", "losses", "optimisers", "loaders"]), ("float64", ["norms", "losses", "models"])],
)
def test_the_stand_in_computes_what_numpy_computes(cupy, capsys, tmp_path, dtype, groups):
    file = tmp_path / "parity.json"
    args = ["--backend", "cupy", "--dtype", dtype, "--only", *groups, "--quick", "--json", str(file)]
    status = main(args)
    out, err = capsys.readouterr()
    assert (status, err) == (0, ""), out
    about, *records = json.loads(file.read_text("utf-8"))
    assert about["device"] == "stand-in 0"
    assert about["versions"]["cupy"] == strict.__version__
    assert {record["group"] for record in records} == set(groups)
    assert out.endswith(f"\n{len(records)} of {len(records)} values within their tolerance\n")
    assert all(record["largest"] > 0 or record["value"].startswith("source") for record in records), "a vacuous value"
    assert all(record["relative"] <= record["tolerance"] for record in records)


def test_every_layer_norm_model_loss_and_optimiser_is_there_with_all_it_gives():
    names = {group: [case.name for case in cases() if case.group == group] for group in GROUPS}
    for kind in ("Linear", "Conv2d", "MaxPool2d", "AvgPool2d", "GlobalAvgPool2d", "ReLU", "Dropout", "Flatten"):
        assert any(name.startswith(kind) for name in names["layers"]), kind
    for kind in ("BatchNorm", "InstanceNorm", "LayerNorm", "GroupNorm", "ModeNorm", "ModeGroupNorm"):
        assert any(name.startswith(kind) for name in names["norms"]), kind
    assert sum("inference" in name for name in names["norms"]) >= 4
    assert len(names["models"]) >= 7
    assert all(names.values())


def find(name):
    return next(case for case in cases() if case.name.startswith(name))


def test_a_case_gives_y_dx_every_gradient_and_the_statistics(cupy):
    assert [record["value"] for record in compare(find("ModeNorm(K=2)"), "float32", "cupy", seconds=0)] == [
        "y",
        "dx",
        "d weight",
        "d bias",
        "d gate.weight",
        "d gate.bias",
        "running_mean",
        "running_mean_square",
    ]


def plant(monkeypatch, kind, method, damage):
    """Damage what a layer's method returns, on the device alone."""
    sound = getattr(kind, method)

    def damaged(self, x):
        result = sound(self, x)
        if not isinstance(x, np.ndarray):
            damage(self, result)
        return result

    monkeypatch.setattr(kind, method, damaged)


PLANTED = {
    "y": (ReLU, "forward", lambda layer, y: y.__imul__(1.0001), "ReLU 5"),
    "dx": (Linear, "backward", lambda layer, dx: dx.__iadd__(0.001), "Linear(7, 5) 4"),
    "d bias": (Linear, "backward", lambda layer, dx: layer.grads["bias"].__imul__(1.001), "Linear(7, 5) 4"),
    "d weight": (Linear, "backward", lambda layer, dx: layer.grads["weight"].fill(np.nan), "Linear(7, 5) 4"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", PLANTED)
def test_a_planted_error_is_out_of_tolerance_and_nothing_else_is(cupy, monkeypatch, value, dtype):
    kind, method, damage, name = PLANTED[value]
    assert all(record["ok"] for record in compare(find(name), dtype, "cupy", seconds=0))
    plant(monkeypatch, kind, method, damage)
    records = compare(find(name), dtype, "cupy", seconds=0)
    assert [record["value"] for record in records if not record["ok"]] == [value]


FOUR_TIMES = {
    "y": ("forward", lambda layer, result, factor: result.__imul__(factor)),
    "dx": ("backward", lambda layer, result, factor: result.__imul__(factor)),
    "d bias": ("backward", lambda layer, result, factor: layer.grads["bias"].__imul__(factor)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", FOUR_TIMES)
@pytest.mark.parametrize(("name", "kind"), [("Linear(7, 5) 4", Linear), ("BatchNorm, mean 1000", BatchNorm)])
def test_an_error_of_four_times_what_is_allowed_is_found(cupy, monkeypatch, name, kind, value, dtype):
    allowed = {record["value"]: record["tolerance"] for record in compare(find(name), dtype, "cupy", seconds=0)}
    assert all(0 < each < 400 * np.finfo(dtype).eps for each in allowed.values())
    method, damage = FOUR_TIMES[value]
    plant(monkeypatch, kind, method, lambda layer, result: damage(layer, result, 1 + 4 * allowed[value]))
    records = compare(find(name), dtype, "cupy", seconds=0)
    assert [record["value"] for record in records if not record["ok"]] == [value]


def test_the_input_of_a_network_is_drawn_on_numpy_whatever_is_compared(cupy, monkeypatch):
    used = []
    monkeypatch.setattr("minidl.parity.subjects.distance_to_kinks", lambda net, x: used.append(default_name()) or 1.0)
    with side("cupy", None):
        find("lenet bn").subject("float32")
    assert set(used) == {"numpy"}


def test_what_is_allowed_is_the_unit_roundoff_times_the_condition_whatever_the_size_of_the_input():
    def cancels(dtype, moves=None):
        a, b = np.array([1000.0]), np.array([999.0])
        a, b = (moves(a), moves(b)) if moves else (a, b)
        return lambda: {"difference": a - b, "label": np.array([3])}

    found = conditions(cancels)
    factor = 8 * np.sqrt(2)  # a sum of one term
    assert 500 * factor < found["difference"].images <= 1999.01 * factor
    assert found["difference"].allowed("float32") == found["difference"].images * 2.0**-24
    assert found["label"].images == found["label"].statistics == 0
    assert Moves(0)(np.array([1000.0]), about=1000.0) == 1000.0
    assert abs(Moves(0)(np.array([1.0]))[0] - 1) == STEP


def test_a_planted_error_is_named_in_the_report_and_ends_in_exit_status_1(cupy, monkeypatch, capsys):
    plant(monkeypatch, *PLANTED["dx"][:3])
    assert main(["--only", "layers", "--dtype", "float32", "--quick"]) == 1
    out, _ = capsys.readouterr()
    wrong = [line for line in out.splitlines() if line.startswith("OUT")]
    assert len(wrong) == 3
    assert all("Linear" in line and " dx " in line for line in wrong)
    assert "values within their tolerance" in out


def test_values_of_another_shape_or_dtype_are_an_error():
    for other in (np.zeros((3, 2)), np.zeros((2, 3), np.float32)):
        with pytest.raises(RuntimeError, match=r"numpy gives float64 \(2, 3\), the other backend float"):
            error(np.zeros((2, 3)), other, 1.0)


def test_an_error_is_relative_to_the_largest_value_and_nan_is_never_within():
    found = error(np.array([0.25, -64.0]), np.array([0.5, -64.0]), 0.5)
    assert found == {"absolute": 0.25, "largest": 64.0, "relative": 2.0**-8, "tolerance": 2.0**-7, "ok": True}
    assert not error(np.array([1.0]), np.array([np.nan]), 1e9)["ok"]
    assert not error(np.zeros(3), np.full(3, 1e-9), 1e-10)["ok"]


def test_a_number_that_a_processor_may_flush_to_zero_is_as_good_as_zero():
    subnormal, normal = np.array([3e-41], np.float32), np.array([3e-37], np.float32)
    assert error(subnormal, np.zeros(1, np.float32), 1e-42)["ok"]
    assert not error(normal, np.zeros(1, np.float32), 1e-38)["ok"]


def test_both_times_are_measured(cupy, capsys):
    assert main(["--only", "optimisers", "--dtype", "float32"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("ok")]
    assert len(rows) == 3
    assert all(float(row[-1]) > 0 and float(row[-2]) > 0 for row in rows)


def test_all_shows_a_line_for_every_value(cupy, capsys):
    assert main(["--only", "losses", "--dtype", "float64", "--quick", "--all"]) == 0
    values = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ok")]
    assert len(values) == 2 * 3


def test_the_distance_to_a_kink_is_that_of_the_nearest_value():
    x = np.array([5.0, 3.0, -2.0, 1.0, 0.5, 4.0, -0.25, -8.0]).reshape(1, 1, 2, 4)
    assert distance_to_kinks(Sequential(ReLU()), x) == 0.25 / 8
    assert distance_to_kinks(Sequential(MaxPool2d(2)), x) == min(5 - 4, 1 - -0.25) / 8
    assert distance_to_kinks(Sequential(MaxPool2d((2, 4), padding=(1, 0))), x) == 2 / 8
    assert distance_to_kinks(Sequential(Linear(4, 4)), np.ones((3, 4))) == np.inf


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--backend", "cupy"], "backend cupy cannot be used: cupy finds no CUDA device; get one"),
        (["--backend", "numpy"], "numpy would be compared with itself; give --backend cupy on a machine with a GPU"),
    ],
)
def test_without_a_second_backend_there_is_one_line_with_the_cure(monkeypatch, capsys, args, message):
    monkeypatch.setattr("minidl.backend.why_no_cupy", lambda: "cupy finds no CUDA device; get one")
    assert main(args) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"minidl.parity: {message}\n")


def test_a_gpu_that_is_not_there_gets_one_line(cupy, capsys):
    assert main(["--device", "5"]) == 1
    assert capsys.readouterr().err == "minidl.parity: device must be in [0, 2), got 5; nvidia-smi lists the GPUs\n"
