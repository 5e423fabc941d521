"""Promise 18: what is no file in a file's place is named and never waited for; no link's target is written to."""

import os
import shutil
import signal
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tiny_run import tiny_config, tiny_task, train

import minidl
from minidl.data import DataError, download, load_task
from minidl.data.arrays import load_npz
from minidl.data.catalog import SVHN, Remote
from minidl.data.fit import fit_file
from minidl.files import NoFileError, open_file, open_own, read_file
from minidl.train import RunError, Trainer, checkpoint
from minidl.train.checkpoint import CheckpointError
from minidl.train.record import read_config, read_losses, read_metrics, read_summary


@contextmanager
def at_once():
    """Fail a test that waits, by what no `except Exception` takes for something else."""

    def late(*_):
        pytest.fail("it waited")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put(kind, path):
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link to a device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to("nowhere")
    return path


KINDS = ["a pipe", "a folder", "a link to a device", "a link to nothing"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped after two evaluations."""
    from tiny_run import make_tiny

    from minidl.models import MODELS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", make_tiny)
        folder = tmp_path_factory.mktemp("stopped") / "run"
        train(folder, until=11)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", read_config),
        ("metrics.jsonl", lambda run: read_metrics(run / "metrics.jsonl")),
        ("losses.jsonl", lambda run: read_losses(run / "losses.jsonl")),
        ("summary.json", read_summary),
    ],
)
def test_a_file_of_a_run_that_is_none_is_named(tmp_path, name, read, kind):
    put(kind, tmp_path / name)
    with at_once(), pytest.raises(RunError, match=rf"{name} (is no file|cannot be read)") as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "losses.jsonl"])
def test_a_run_is_not_gone_on_with(tmp_path, stopped, name, kind):
    shutil.copytree(stopped, tmp_path / "run")
    put(kind, tmp_path / "run" / name)
    with at_once(), pytest.raises(RunError, match=f"{name} |holds no run to resume"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_is_no_file_is_named(tmp_path, kind):
    from minidl.interchange.errors import StateError
    from minidl.interchange.files import read_state

    put(kind, tmp_path / "a.npz")
    put(kind, tmp_path / "step-000000001.safetensors")
    shutil.copytree(Path(minidl.__file__).parent / "data" / "sample" / "mnist", tmp_path / "mnist")
    put(kind, tmp_path / "mnist" / "train-images-idx3-ubyte.gz")
    with at_once():
        for error, read in (
            (DataError, lambda: load_npz(tmp_path / "a.npz")),
            (DataError, lambda: load_task("mnist", tmp_path, cache_dir=tmp_path / "cache")),
            (ValueError, lambda: fit_file(tmp_path / "a.npz", 32)),
            (CheckpointError, lambda: checkpoint.load(tmp_path / "step-000000001.safetensors")),
            (StateError, lambda: read_state(tmp_path / "a.npz")),
        ):
            with pytest.raises(error) as found:
                read()
            assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "losses.jsonl"])
def test_a_link_in_the_folder_of_a_new_run_leaves_its_target_as_it_is(tmp_path, name):
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(target)
    with pytest.raises(RunError, match=f"{name} is .*; remove it, or give another --out"):
        train(tmp_path / "run")
    assert target.read_text("utf-8") == "precious"
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "losses.jsonl"])
def test_a_link_that_comes_while_a_run_trains_leaves_its_target_as_it_is(tmp_path, stopped, name):
    shutil.copytree(stopped, tmp_path / "run")
    trainer = Trainer(tiny_config(), tmp_path / "run", resume=True, quiet=True, task=tiny_task())
    trainer.run(12)  # until then it holds the lock, and opens it no more
    target = tmp_path / "precious"
    (tmp_path / "run" / name).replace(target)
    before = target.read_bytes()
    (tmp_path / "run" / name).symlink_to(target)
    with pytest.raises(RunError, match=f"{name} is a link; remove it"):
        trainer.run()
    assert target.read_bytes() == before


def test_a_lock_that_is_somebodys_file_is_not_written_to(tmp_path):
    (tmp_path / ".lock").write_text("my own notes")
    with pytest.raises(RunError, match=r"\.lock is not minidl's; remove it"):
        train(tmp_path)
    assert (tmp_path / ".lock").read_text("utf-8") == "my own notes"


@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_one_way_to_open_a_file_refuses_it(tmp_path, kind):
    path = put(kind, tmp_path / "x")
    with at_once():
        for open_it in (open_file, read_file, lambda path: open_own(path, os.O_RDWR)):
            with pytest.raises(NoFileError):
                open_it(path)


def test_a_link_to_a_file_is_read_and_a_file_written(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert read_file(tmp_path / "b") == b"abc"
    os.close(open_own(tmp_path / "c", os.O_WRONLY))
    assert (tmp_path / "c").exists()


def test_what_is_no_file_is_not_replaced_by_what_is_written(tmp_path):
    from minidl.train.checkpoint import write_atomic

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=r"is no file|Is a directory"):
            write_atomic(tmp_path / name, b"content")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    write_atomic(tmp_path / "new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content"


def test_the_records_of_a_measurement_are_a_file(tmp_path):
    from minidl.bench import record

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no file"):
        record.load(tmp_path / "pipe")


@pytest.mark.parametrize("when", ["before it starts", "while it trains", "before it is resumed"])
def test_checkpoints_are_not_written_through_a_link(tmp_path, stopped, when):
    target = tmp_path / "precious"
    if when == "before it starts":
        (tmp_path / "run").mkdir()
        target.mkdir()
    else:
        shutil.copytree(stopped, tmp_path / "run")
    trainer = None
    if when == "while it trains":
        trainer = Trainer(tiny_config(), tmp_path / "run", resume=True, quiet=True, task=tiny_task())
    if when != "before it starts":
        (tmp_path / "run" / "checkpoints").rename(target)
    (tmp_path / "run" / "checkpoints").symlink_to(target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(RunError, match=r"checkpoints is a link; put the folder .* or give another --out"):
        trainer.run() if trainer else train(tmp_path / "run", resume=when == "before it is resumed")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert (tmp_path / "run" / "config.json").exists() == (when != "before it starts")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["meta.json", "train-images.npy"])
def test_what_is_no_file_in_the_cache_of_decoded_arrays_is_made_anew(tmp_path, kind, name):
    sample = Path(minidl.__file__).parent / "data" / "sample"
    shutil.copytree(sample / "mnist", tmp_path / "mnist")

    def load():
        return load_task("mnist", tmp_path, cache_dir=tmp_path / "cache", progress=False)

    first = np.array(load().train.images)
    (meta,) = (tmp_path / "cache").rglob("meta.json")
    path = meta if name == "meta.json" else min(meta.parent.glob("*.npy"))
    put(kind, path)
    with at_once():
        assert (load().train.images == first).all()
    assert path.is_file()


@pytest.mark.parametrize("kind", [*KINDS, "a file"])
@pytest.mark.parametrize("what", ["the entry", "what was left"])
def test_what_is_no_folder_in_the_cache_of_decoded_arrays_is_replaced_and_nothing_left(
    tmp_path, monkeypatch, what, kind
):
    shutil.copytree(Path(minidl.__file__).parent / "data" / "sample" / "mnist", tmp_path / "mnist")
    monkeypatch.setattr("minidl.data.half_written.ABANDONED", -10.0)  # seconds: what was left is old

    def load():
        return load_task("mnist", tmp_path, cache_dir=tmp_path / "cache", progress=False)

    first = np.array(load().train.images)
    (entry,) = (tmp_path / "cache" / "decoded").iterdir()
    target = tmp_path / "precious"
    target.mkdir()
    (target / "mine").write_text("mine")
    shutil.rmtree(entry)
    path = entry if what == "the entry" else entry.with_name(f".{entry.name}.0123.old")
    path.write_text("x") if kind == "a file" else put(kind, path)
    entry.with_name(f".{entry.name}.4567.new").symlink_to(target)
    with at_once():
        task = load()
    assert not [line for line in task.describe() if "could not be used" in line]
    assert (task.train.images == first).all()
    assert list(entry.parent.iterdir()) == [entry]
    assert entry.is_dir()
    assert [each.name for each in target.iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_what_is_no_file_in_the_place_of_a_download_is_named(tmp_path, kind):
    remote = Remote("x_32x32.mat", "0" * 64, 10, ("http://127.0.0.1:9/x",))
    path = put(kind, tmp_path / remote.name)
    with at_once(), pytest.raises(DataError, match=r"x_32x32.mat: is no file; remove it") as error:
        download._fetch_file(SVHN, remote, tmp_path, path, progress=False)
    assert "\n" not in str(error.value)


def test_an_evaluation_is_not_written_through_a_link_that_a_runs_folder_has(tmp_path, capsys):
    from minidl.evaluate.__main__ import main as evaluate
    from minidl.train.__main__ import main as train_command

    args = ["lenet", "mnist", "--sample", "--norm", "none", "--batch-size", "8", "--updates", "1", "--threads", "1"]
    assert train_command([*args, "--quiet", "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "precious").mkdir()
    (tmp_path / "run" / "evaluation").symlink_to(tmp_path / "precious")
    capsys.readouterr()
    assert evaluate([str(tmp_path / "run"), "--quiet"]) == 1
    assert capsys.readouterr().err.endswith("evaluation: is a link; choose another --out or make it writable\n")
    assert not list((tmp_path / "precious").iterdir())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["starts.jsonl", "log.txt"])
def test_what_a_process_says_is_added_to_a_file_alone(tmp_path, kind, name):
    from minidl.reproduce.run_process import RunProcess

    put(kind, tmp_path / name)
    with at_once(), pytest.raises(OSError, match=r"is a link|is no file"):
        RunProcess(tiny_config(), tmp_path)


def test_a_crash_is_not_kept_through_a_link(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "crash").symlink_to(tmp_path / "precious")
    with pytest.raises(NoFileError, match="is a link"):
        checkpoint.save(tmp_path / "crash", 1, {"a": np.ones(3)}, {})
    assert not list((tmp_path / "precious").iterdir())
