"""Promise 10: a run goes on with its own settings and data alone, and what changed is named."""

import json
import os
import re
import shutil
import tracemalloc
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from data_files import idx_content, write
from tiny_run import result, tiny_task, train

import minidl
from minidl.data import data_sha256, load_task
from minidl.train import RunError, Trainer, checkpoint, recipe
from minidl.train.__main__ import main
from minidl.train.checkpoint import CheckpointError


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_decoded_again(tmp_path):
    def put(value):
        for stem in ("train", "t10k"):
            write(tmp_path / "mnist" / f"{stem}-images-idx3-ubyte", idx_content(np.full((3, 28, 28), value)))
            write(tmp_path / "mnist" / f"{stem}-labels-idx1-ubyte", idx_content(np.arange(3)))
        for path in (tmp_path / "mnist").iterdir():
            os.utime(path, ns=(10**18, 10**18))

    for value in (7, 8):
        put(value)
        task = load_task("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache", progress=False)
        assert task.train.images.max() == value


def test_the_whole_data_is_hashed_once_and_each_pixel_and_label_counts():
    train = load_task("multitask", sample=True, progress=False).train
    computed = replace(train, kept_sha256=None)
    assert train.kept_sha256 == data_sha256(computed)
    for part, at in (("images", (1001, 2, 31, 30)), ("labels", 1001), ("source", 1001)):
        changed = getattr(train, part).copy()
        changed[at] ^= 1
        assert data_sha256(replace(computed, **{part: changed})) != train.kept_sha256


def test_resuming_with_other_pixels_is_refused(tmp_path):
    task = tiny_task()
    train(tmp_path / "run", until=2, task=task)
    for part, words in (("train", "training"), ("test", "test")):
        images = getattr(task, part).images.copy()
        images[7, 1, 30, 2] ^= 1
        other = replace(task, **{part: replace(getattr(task, part), images=images)})
        with pytest.raises(RunError, match=f"other data: as many {words} images, and others among them; put") as caught:
            train(tmp_path / "run", resume=True, task=other)
        assert caught.value.exit_status == 4


def test_resuming_with_other_data_says_of_what_there_is_another_number(tmp_path):
    train(tmp_path / "run", until=2)
    then, now = (np.bincount(task.train.source) for task in (tiny_task(), tiny_task(seed=1)))
    assert then[0] != now[0]
    with pytest.raises(RunError) as caught:
        train(tmp_path / "run", resume=True, task=tiny_task(seed=1))
    said = str(caught.value)
    assert re.search(rf"even: {now[0]} training .*images now, {then[0]}.* then; odd: {now[1]} training", said)
    assert not re.search("[0-9a-f]{9}", said)
    assert len(said.replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"lr": 0.07}, "lr 0.05 there, 0.07 asked"),
        ({"modes": 4, "seed": 2}, "modes 3 there, 4 asked; seed 0 there, 2 asked"),
        ({"lr_drops": ()}, r"lr_drops \['20', '9u'\] there, \[\] asked"),
    ],
    ids=str,
)
def test_resuming_with_another_configuration_is_refused_with_the_difference(tmp_path, changes, difference):
    train(tmp_path / "run", until=2)
    before = result(tmp_path / "run") if (tmp_path / "run" / "metrics.jsonl").exists() else None
    with pytest.raises(
        RunError, match=f"holds another run: {difference}. Leave those settings out, or give another --out"
    ):
        train(tmp_path / "run", resume=True, **changes)
    assert before is None or result(tmp_path / "run") == before


def test_checkpoints_of_another_run_are_refused(tmp_path):
    train(tmp_path / "a", until=4)
    train(tmp_path / "b", until=4, lr=0.06)
    (tmp_path / "a" / "checkpoints").rename(tmp_path / "gone")
    (tmp_path / "b" / "checkpoints").rename(tmp_path / "a" / "checkpoints")
    with pytest.raises(
        CheckpointError, match=r"belongs to another run than .*a/config.json; no whole checkpoint is left in"
    ):
        train(tmp_path / "a", resume=True)


@pytest.mark.usefixtures("no_curves")
def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "2", "--batch-size", "8", "--out", "run", "--quiet"]
    assert main(args) == 0
    before = result(tmp_path / "run")
    capsys.readouterr()
    assert main([*args, "--seed", "1"]) == 1
    assert capsys.readouterr().err == (
        "minidl.train: run already holds a run; --resume continues it, another --out starts a new one\n"
    )
    assert main([*args, "--resume", "--lr", "0.2", "--norm", "bn"]) == 1
    assert capsys.readouterr().err == (
        "minidl.train: run holds another run: norm 'mn' there, 'bn' asked; lr 0.1 there, 0.2 asked. "
        "Leave those settings out, or give another --out\n"
    )
    assert main(["--out", "run", "--resume", "--quiet"]) == 0
    assert main(args) == 0
    assert "done already, in run; to train it anew give another --out, or remove" in capsys.readouterr().out
    assert result(tmp_path / "run") == before


@pytest.mark.usefixtures("no_curves")
def test_a_run_in_its_own_folder_is_resumed_by_the_command_that_started_it_with_the_data_it_had(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = str(Path(minidl.__file__).parent / "data" / "sample")
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    args = ["lenet", "mnist", "--updates", "2", "--batch-size", "8", "--quiet"]
    assert main([*args, "--data-dir", sample]) == 0
    before = result(tmp_path / "runs" / "lenet-mnist-mn2-n8-seed0-length2u")
    assert main([*args, "--resume"]) == 0
    assert (
        main([*args, "--resume", "--sample", "--out", "runs/lenet-mnist-mn2-n8-seed0-length2u"]) == 0
    )  # the same images
    assert result(tmp_path / "runs" / "lenet-mnist-mn2-n8-seed0-length2u") == before


# -- the inputs that a record names ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """A run of a network whose first Linear takes images of one size alone."""
    folder = tmp_path_factory.mktemp("lenet") / "run"
    config = replace(recipe("lenet", "mnist"), sample=True, length="1u", batch_size=4, norm="bn", backend="numpy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minidl.train.finish.draw", lambda *given: None)
        Trainer(config, folder, quiet=True).run()
    return folder


def misrecorded(lenet, tmp_path, shape, alone=False):
    """Return a copy of the run, or of its checkpoint, whose record names inputs of another shape."""
    shutil.copytree(lenet, tmp_path / "run")
    (path,) = checkpoint.list_steps(tmp_path / "run" / "checkpoints")
    if not alone:
        file = tmp_path / "run" / "config.json"
        content = json.loads(file.read_text("utf-8"))
        content["input"]["shape"] = shape
        file.write_text(json.dumps(content))
        return tmp_path / "run"
    tensors, meta = checkpoint.load(path)
    meta["run"]["input"]["shape"] = shape
    return checkpoint.save(tmp_path / "alone", meta.pop("step"), tensors, meta)


@pytest.mark.parametrize("shape", [[3, 64, 64], [3, 28, 28], [3, 4, 4], [3, 4096, 4096]])
@pytest.mark.parametrize("alone", [False, True])
def test_inputs_that_do_not_fit_the_weights_are_named_when_a_network_is_loaded(tmp_path, lenet, shape, alone):
    path = misrecorded(lenet, tmp_path, shape, alone)
    cure = "take it from its run anew" if alone else "put back the .*config.json that the run wrote"
    tracemalloc.start()
    try:
        with pytest.raises(RunError, match=rf"do not fit the inputs \(3, {shape[1]}, .*; {cure}, or train it anew$"):
            minidl.load(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20, "a size that a file claims takes no memory"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "args",
    [
        ["evaluate"],
        ["predict", "image.png"],
        ["export", "--onnx", "x.onnx"],
        ["export", "--safetensors", "x.safetensors"],
    ],
)
def test_inputs_that_do_not_fit_the_weights_are_one_line_of_every_command(tmp_path, lenet, capsys, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    command, *more = args
    run = misrecorded(lenet, tmp_path, [3, 64, 64])
    assert import_module(f"minidl.{command}.__main__").main([str(run), *more]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "its weights do not fit the inputs (3, 64, 64) that it names (Linear.forward: x must be (N, 400)" in err
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("shape", [3, 64, 64], r"the shape of its input is \[3, 64, 64\], and that of the data \[3, 32, 32\]"),
        ("fit", "imagenet", "the fit of its input is 'imagenet', and that of the data 'square'"),
        ("class_names", ["a", "b", "d", "c"], "the class_names of its input is"),
    ],
)
def test_a_record_of_other_inputs_is_not_gone_on_with(tmp_path, name, value, what):
    train(tmp_path / "run", until=2)
    file = tmp_path / "run" / "config.json"
    content = json.loads(file.read_text("utf-8"))
    content["input"][name] = value
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"config.json is damaged \({what}.*; put back the one that the run wrote$"):
        train(tmp_path / "run", resume=True)
