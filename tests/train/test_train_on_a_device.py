"""Training with `--backend cupy`, over the stand-in that runs CuPy's path and its kernels without a GPU."""

import json
from dataclasses import replace

import numpy as np
import pytest
import strict
from run_rounding import numbers, run_rounding
from tiny_run import TOTAL, result, tiny_config, tiny_task, train
from tolerance import assert_close

from minidl import threads
from minidl.norm import NORMS
from minidl.reproduce.store import run_hash
from minidl.train import DivergedError, Trainer, build, recipe
from minidl.train.__main__ import main
from minidl.train.running import READ_EVERY

pytestmark = pytest.mark.usefixtures("no_curves")
SHORT = replace(
    recipe("lenet", "mnist"), sample=True, length="3u", eval_every=2, batch_size=5, augment="flip-crop", threads=1
)


@pytest.fixture
def cupy():
    """Let `import cupy` give the stand-in."""
    with strict.as_cupy():
        yield


def finished(config):
    trainer = Trainer(config, quiet=True)
    trainer.run()
    return trainer


def updates(trainer, count):
    """Let a trainer do so many updates, and nothing else."""
    batches = trainer._batches()
    with trainer._backend(), threads(1):
        for _ in range(count):
            trainer._update(*next(batches))
            yield


@pytest.mark.parametrize(
    ("model", "norm", "dtype"),
    [
        ("lenet", "bn", "float64"),
        ("lenet", "mn", "float64"),
        ("lenet", "mgn", "float64"),
        ("lenet1989", "mn", "float32"),
    ],
)
def test_a_run_has_the_metrics_of_numpy_to_rounding(cupy, model, norm, dtype):
    """In float32 a network without kinks, over which rounding would carry some value."""
    config = replace(SHORT, model=model, norm=norm, dtype=dtype)
    ours, theirs = (finished(replace(config, backend=name)) for name in ("cupy", "numpy"))
    assert [line["step"] for line in ours.history] == [line["step"] for line in theirs.history] == [2, 3]
    if dtype == "float64":
        for name in ("train_error", "test_errors"):
            assert [line[name] for line in ours.history] == [line[name] for line in theirs.history]
    got, want, allowed = numbers(ours), numbers(theirs), run_rounding(config)
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert_close(value, want[name], allowed[name], name)
        assert np.abs(want[name]).max() > 100 * allowed[name], f"{name}: a vacuous value"


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_never_waits_between_two_readings_and_uploads_nothing(cupy, norm):
    trainer = Trainer(replace(SHORT, norm=norm, backend="cupy"), quiet=True)
    step = updates(trainer, READ_EVERY + 1)
    next(step)  # the first reading; data and order are uploaded before it
    with strict.recording() as record, strict.no_synchronisation():
        for _ in range(READ_EVERY - 1):
            next(step)
    assert record.uploads == 0
    assert len(record.operations) > 20 * READ_EVERY
    with strict.recording() as record:
        next(step)
    assert 1 <= len(record.synchronisations) <= 2


def test_an_evaluation_waits_as_often_however_many_batches_it_has(cupy, monkeypatch):
    waits = {}
    for size in (60, 300):
        monkeypatch.setattr(build, "EVAL_BATCH_GPU", size)
        trainer = Trainer(replace(SHORT, norm="mn", backend="cupy", length="1u"), quiet=True)
        with strict.recording() as record:
            trainer.run()
        waits[size] = record.synchronisations
    assert waits[60] == waits[300]
    assert len(waits[60]) < 15


def test_what_is_uploaded_does_not_depend_on_how_many_updates_an_epoch_has(cupy):
    uploads = []
    for length in ("2u", "5u"):
        trainer = Trainer(replace(SHORT, backend="cupy", length=length, eval_every=5), quiet=True)
        with strict.recording() as record:
            trainer.run()
        uploads.append(record.uploads)
    assert uploads[0] == uploads[1]


@pytest.mark.parametrize("stop", [1, 4, 5, 6, 9, 13])
def test_a_run_resumed_on_a_device_is_the_uninterrupted_run(cupy, tmp_path, stop):
    train(tmp_path / "whole", backend="cupy")
    train(tmp_path / "run", backend="cupy", until=stop)
    assert train(tmp_path / "run", resume=True, backend="cupy", device=1).step == TOTAL
    assert result(tmp_path / "run") == result(tmp_path / "whole")


@pytest.mark.parametrize(("first", "then"), [("numpy", "cupy"), ("cupy", "numpy")])
def test_a_run_goes_on_with_another_backend_where_it_stood_and_says_so(cupy, tmp_path, capsys, first, then):
    run = tmp_path / "run"
    before = train(run, until=7, backend=first, dtype="float64")
    state, velocity = before.model.state(), before.optimiser.state()
    other = Trainer(tiny_config(backend=then, dtype="float64"), run, resume=True, quiet=True, task=tiny_task())
    for expected, got in ((state, other.model.state()), (velocity, other.optimiser.state())):
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value, err_msg=name)
    said = f"minidl.train: {run} goes on with {then} after update 7, {first} before: its numbers are those of neither"
    assert capsys.readouterr().err.startswith(said)
    other.run()
    train(run, resume=True, backend=then, dtype="float64")
    assert capsys.readouterr().err == ""
    content = json.loads((run / "config.json").read_text("utf-8"))
    assert content["went_on"] == [{"after_update": 7, "backend": then}]
    assert content["config"]["backend"] == first
    whole = train(tmp_path / "whole", backend=first, dtype="float64")
    allowed = run_rounding(tiny_config(dtype="float64"), tiny_task())
    for name in ("test_loss", "train_loss"):
        assert_close(numbers(other)[name], numbers(whole)[name], allowed[name], name)


def test_a_loss_that_is_not_finite_is_found_at_the_next_reading_and_its_update_named(cupy):
    config = tiny_config(backend="cupy", length="40u", eval_every=40, checkpoint_every=40)
    trainer = Trainer(config, quiet=True, task=tiny_task())
    trainer.run(until=3)
    trainer.model.layers[-1].params["bias"].fill(np.inf)
    with pytest.raises(DivergedError, match=r"the loss is nan at update 4 \(lr 0.05\); lower --lr"):
        trainer.run()
    assert trainer.step == 16  # the first reading after the first is in update 17


def test_which_gpu_computes_is_no_part_of_what_a_run_is():
    config = replace(recipe(), backend="cupy")
    assert run_hash(replace(config, device=3), {}) == run_hash(config, {})
    assert run_hash(replace(config, backend="numpy"), {}) != run_hash(config, {})


COMMAND = ["lenet", "mnist", "--sample", "--updates", "1", "--batch-size", "8", "--out", "run"]


@pytest.mark.parametrize("backend", ["cupy", "auto"])
def test_the_command_says_which_backend_and_gpu_it_took_and_the_summary_keeps_it(
    cupy, tmp_path, monkeypatch, capsys, backend
):
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, "--backend", backend, "--device", "1"]) == 0
    out, err = capsys.readouterr()
    assert "; cupy on device 1, stand-in 1\n" in out
    assert err == ""
    machine = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))["machine"]
    assert (machine["backend"], machine["device"], machine["cupy"]) == ("cupy", "stand-in 1", strict.__version__)


def test_the_summary_keeps_the_version_of_numba_that_computed(tmp_path, monkeypatch):
    numba = pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, "--backend", "numba", "--quiet"]) == 0
    machine = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))["machine"]
    assert (machine["backend"], machine["numba"]) == ("numba", numba.__version__)


@pytest.mark.parametrize("gpu", [False, True])
def test_auto_says_that_it_takes_numpy_and_why_of_cupy_where_there_is_a_gpu(tmp_path, monkeypatch, capsys, gpu):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minidl.backend.has_gpu", lambda: gpu)
    monkeypatch.setattr("minidl.backend.why_no_cupy", lambda: "cupy finds no CUDA device; run on one with a GPU")
    monkeypatch.setattr("minidl.backend.why_no_numba", lambda: "numba is not installed")
    assert main([*COMMAND, "--backend", "auto", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert "; numpy, threads: 1\n" in out
    why = "cupy finds no CUDA device; run on one with a GPU; and " * gpu + "numba is not installed"
    assert err == f"minidl: backend auto: numpy, since {why}\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backend", "cupy", "--device", "7"], "device must be in [0, 2), got 7; nvidia-smi lists the GPUs"),
        (["--device", "0"], "device 0 cannot be used: the backend is numpy; ask for cupy (--backend cupy)"),
        (["--backend", "cupy", "--device", "-1"], "--device must be at least 0, got -1; give a whole number from 0 up"),
    ],
)
def test_a_gpu_that_is_not_there_gets_one_line_with_the_cure(cupy, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, *flags, "--quiet"]) in (1, 2)
    assert capsys.readouterr().err == f"minidl.train: {message}\n"
    assert list(tmp_path.iterdir()) == []
