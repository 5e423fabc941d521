"""`python -m minidl.bench --backend cupy` over the stand-in for CuPy; PyTorch's GPU is played by its CPU."""

import importlib.util

import numpy as np
import pytest
import strict
from layer_runs import as_float64
from tolerance import assert_close, rounding

from minidl import use_backend
from minidl.bench import __main__ as command
from minidl.bench import gpu, minidl_side, record
from minidl.bench.cases import batch_of, network
from minidl.bench.gpu import TARGETS, in_runs
from minidl.bench.record import Norm
from minidl.bench.timing import Plan, Work, interleave, median

HAS_TORCH = importlib.util.find_spec("torch") is not None
QUICK = ["--backend", "cupy", "--quick", "--batch", "3", "--threads", "1"]


@pytest.fixture
def cupy(monkeypatch):
    """Let `import cupy` give the stand-in, and the targets be measured on few images."""
    monkeypatch.setattr(gpu, "TARGET_BATCH", 3)
    with strict.as_cupy():
        yield


@pytest.fixture
def torch_gpu(monkeypatch):
    """Let PyTorch's side compute on the CPU."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from minidl.bench import torch_gpu_side as side
    from minidl.bench.torch_side import threads

    monkeypatch.setattr(side, "DEVICE", "cpu")
    monkeypatch.setattr(side, "set_up", lambda index: None)
    monkeypatch.setattr(side, "synchronize", lambda: None)
    monkeypatch.setattr(side, "captured_step", side.step)
    with threads(1):
        yield side


def rows(tmp_path, *args):
    """Run a quick selection; return its header and records."""
    file = tmp_path / "gpu.json"
    assert command.main([*QUICK, "--json", str(file), *args]) == 0
    return record.load(file)


def test_every_section_of_a_gpu_leaves_records_that_name_backend_and_device(cupy, tmp_path, capsys):
    about, *found = rows(tmp_path, "--norms", "bn,mn2", "--device", "1")
    assert about["device"] == "stand-in 1"
    assert about["versions"]["cupy"] == strict.__version__
    assert {row["section"] for row in found} == {"steps", "targets", "modes", "loader"}
    assert all((row["backend"], row["device"]) == ("cupy", "stand-in 1") for row in found)
    assert all(row["minidl_ms"] > 0 for row in found)
    out = capsys.readouterr().out
    assert "stand-in 1, " in out
    assert "minidl MN K=6 / minidl BN, at most 1.03: " in out


def test_a_cpu_names_backend_and_device_too(tmp_path):
    file = tmp_path / "cpu.json"
    args = ["--quick", "--only", "steps", "--batch", "3", "--norms", "bn", "--threads", "1", "--json", str(file)]
    assert command.main(args) == 0
    about, row = record.load(file)
    assert (row["backend"], row["device"]) == ("numpy", about["cpu"])


def test_against_pytorch_each_step_has_eager_and_graph_and_each_target_its_verdict(cupy, torch_gpu, tmp_path, capsys):
    _, *found = rows(tmp_path, "--against", "torch", "--norms", "mn6", "--only", "steps", "targets")
    steps = [row for row in found if row["section"] == "steps"]
    assert [row["what"] for row in steps] == ["lenet step", "lenet step, PyTorch in a CUDA graph"]
    assert all(row["torch_ms"] > 0 and row["ratio"] > 0 for row in steps)
    assert steps[0]["torch_ms"] != steps[1]["torch_ms"]
    targets = [row for row in found if row["section"] == "targets"]
    assert [(row["ratio_is"], row["target"]) for row in targets] == [
        ("PyTorch MN K=6 / minidl MN K=6", "at least 3"),
        ("PyTorch BN / minidl MN K=6", "at least 1"),
        ("minidl MN K=6 / minidl BN", "at most 1.03"),
        ("PyTorch in a CUDA graph MN K=6 / minidl MN K=6", "at least 1"),
        ("PyTorch in a CUDA graph BN / minidl BN", "at least 1"),
    ]
    for row, target in zip(targets, TARGETS, strict=True):
        assert row["met"] == target.met(row["ratio"])
    out = capsys.readouterr().out
    assert out.count(": met\n") == sum(row["met"] for row in targets)
    assert out.count(": missed\n") == sum(not row["met"] for row in targets)


def test_a_target_is_a_least_or_a_most():
    least, most = TARGETS[0], TARGETS[2]
    assert [least.met(ratio) for ratio in (2.99, 3.0, 9.0)] == [False, True, True]
    assert [most.met(ratio) for ratio in (0.5, 1.03, 1.04)] == [True, True, False]


def test_pytorchs_step_is_the_step_that_minidl_takes(cupy, torch_gpu, monkeypatch):
    """In float64, in which no value comes so near to a kink that rounding would carry it over."""
    for side in (minidl_side, torch_gpu):
        monkeypatch.setattr(side, "LR", 1e-2)
    rng = np.random.default_rng(0)
    net = as_float64(network("lenet", Norm("bn"), rng))
    x, labels = batch_of(7, rng)
    x, start, module = x.astype("float64"), net.state(), torch_gpu.twin(net)
    monkeypatch.setattr(torch_gpu, "twin", lambda net: module)

    def after_two(work):
        for _ in range(2):
            work.parts["step"]()

    def theirs(**state):
        tensors = {name: torch_gpu.tensor(value) for name, value in state.items()}
        module.load_state_dict(tensors, strict=False)
        after_two(torch_gpu.step(net, x, labels))
        return {name: value.numpy() for name, value in module.state_dict().items() if name in start}

    allowed, want = rounding(theirs, start, trials=4), theirs(**start)
    after_two(minidl_side.step(net, x, labels, 1))
    for name, value in net.state().items():
        assert np.abs(value - start[name]).max() > 1e3 * allowed[name], f"{name}: it hardly moves"
        assert_close(value, want[name], allowed[name], name)


def test_a_run_of_steps_is_waited_for_at_its_end_alone_and_counts_as_one_step():
    events, now = [], [0.0]

    def step():
        events.append("step")

    def wait():
        events.append("wait")
        now[0] += 6.0

    work = in_runs(Work({"step": step}), wait, steps=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minidl.bench.timing.time.perf_counter", lambda: now[0])
        taken = interleave({"a": work}, Plan(rounds=1, rest=0.0, warm_up=0, wake=0.0, burst=0.0, calls=1))
    assert events == ["step"] * 3 + ["wait"]
    assert median(taken["a"]["step"]) == 2.0


def test_the_device_is_waited_for_once_a_run(cupy):
    settings = command._settings(command.make_parser().parse_args(QUICK))
    with use_backend("cupy"):
        work = gpu.works(settings, "lenet", Norm("bn"), 3)["minidl"]
        with strict.recording() as seen:
            work.parts["step"]()
    assert seen.synchronisations == ["Stream.synchronize()"]


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")
def test_a_pytorch_without_a_gpu_is_said_and_minidl_measured_alone(cupy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _, *found = rows(tmp_path, "--against", "torch", "--norms", "bn", "--only", "steps")
    assert "finds no CUDA device; install a build with CUDA; minidl is measured alone" in capsys.readouterr().err
    assert [row["torch_ms"] for row in found] == [None]


def test_without_a_gpu_there_is_one_line_with_the_cure(monkeypatch, capsys):
    monkeypatch.setattr("minidl.backend.why_no_cupy", lambda: "cupy finds no CUDA device; get one")
    assert command.main(["--backend", "cupy", "--against", "torch"]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "minidl.bench: backend cupy cannot be used: cupy finds no CUDA device; get one\n")


def test_a_section_of_the_cpu_is_refused_on_a_gpu(cupy, capsys):
    with pytest.raises(SystemExit) as left:
        command.main([*QUICK, "--only", "threads", "steps", "memory"])
    assert left.value.code == 2
    assert "--backend cupy has no threads and no memory, only steps, targets, modes" in capsys.readouterr().err
