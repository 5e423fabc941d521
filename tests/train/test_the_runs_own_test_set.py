"""`minidl evaluate RUN` measures the very test set of the run, or says what has changed in its data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import make_tiny, tiny_config

import minidl
from minidl.evaluate.__main__ import main as evaluate
from minidl.models import MODELS
from minidl.train import Trainer

pytestmark = pytest.mark.usefixtures("no_curves")

rng = np.random.default_rng(3)


def put(folder, counts):
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (32, 35, 3), np.uint8)).save(folder / name / f"{i:02d}.png")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    return tmp_path


def train(task, data_dir, **changes):
    changes = {"image_size": 32, "length": "2u", "eval_every": 2, "augment": "none", "lr_drops": (), **changes}
    trainer = Trainer(tiny_config(task=task, data_dir=data_dir, **changes), "run", quiet=True)
    trainer.run()
    return trainer


def measured(folder="evaluation"):
    return json.loads(Path("run", folder, "evaluation.json").read_text("utf-8"))


def said(capsys):
    """Return what a command said on stderr, which is one line."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_images_that_training_skipped_are_skipped_and_no_training_image_is_measured(here, capsys):
    put(here / "photos", {"ant": 12, "bee": 12})
    for name in ("03.png", "07.png"):
        (here / "photos" / "bee" / name).write_text("a letter")
    trainer = train("folder", "photos", corrupt="skip")
    assert evaluate(["run", "--quiet"]) == 0
    assert f" of {len(trainer.task.test)})" in capsys.readouterr().out
    first = measured()
    assert first["own_test_set"]
    assert first["test_loss"] == trainer.history[-1]["test_loss"]
    (here / "photos").rename(here / "moved")
    assert evaluate(["run", "--quiet", "--data-dir", "moved"]) == 0
    assert measured()["test_loss"] == first["test_loss"]


def drawn(here):
    put(here / "data", {"ant": 10, "bee": 10})
    return "folder", lambda: put(here / "data", {"bee": 15}), "bee: 12 training and 3 test images now, 8 and 2 then"


def given(here):
    for part, count in (("train", 6), ("test", 3)):
        put(here / "data" / part, {"ant": count, "bee": count})
    return "folder", lambda: (here / "data/test/ant/01.png").unlink(), "ant: 2 test images now, 3 then"


def other_pixels(here):
    task, *_ = given(here)
    return task, lambda: put(here / "data" / "test", {"bee": 1}), "as many test images, and others among them"


def gone(here):
    put(here / "data", {"ant": 10, "bee": 10, "cat": 10})
    return "folder", lambda: shutil.rmtree(here / "data" / "cat"), "the class cat is gone"


def arrays(here):
    def write(count):
        images = rng.integers(0, 256, (count, 32, 32), np.uint8)
        np.savez(here / "data.npz", images=images, labels=np.arange(count) % 2)

    write(20)
    return "arrays", lambda: write(30), "0: 12 training and 3 test images now, 8 and 2 then; 1: 12 training"


def image_files(here):
    for part, count in (("train", 6), ("val", 3)):
        put(here / "data" / part, {"ant": count, "bee": count})
    return "imagenet", lambda: put(here / "data" / "val", {"bee": 4}), "imagenet: 7 test images now, 6 then"


@pytest.mark.parametrize("data", [drawn, given, other_pixels, gone, arrays, image_files])
def test_data_that_changed_is_refused_with_what_changed_and_the_result_from_before_stays(here, capsys, data):
    task, change, what = data(here)
    train(task, "data.npz" if task == "arrays" else "data")
    assert evaluate(["run", "--quiet"]) == 0
    before = measured()
    assert before["own_test_set"]
    change()
    capsys.readouterr()
    assert evaluate(["run", "--quiet"]) == 4
    err = said(capsys)
    assert f"minidl.evaluate: run: its own data is not what it was, in {here / 'data'}" in err
    assert what in err
    assert err.endswith("; put it back as it was, or give --data-dir to measure other images\n")
    assert measured() == before


def test_a_run_s_folder_that_changed_is_measured_where_it_is_asked_for_and_said_to_be_other_data(here, capsys):
    _, change, _ = drawn(here)
    train("folder", "data")
    change()
    assert evaluate(["run", "--quiet", "--data-dir", "data"]) == 0
    out = capsys.readouterr().out
    assert "on folder, not the run's test set: the run's folder has changed, and all its images are taken, those" in out
    assert " of 25), " in out
    assert not measured("evaluation-data")["own_test_set"]


def test_images_in_no_folder_of_a_class_get_the_cure_that_training_gives(here, capsys):
    drawn(here)
    train("folder", "data")
    assert evaluate(["run", "--quiet", "--data-dir", "data/bee"]) == 4
    message = "data/bee: its images lie in no folder; put the images of each class in a folder of its own, such as "
    assert said(capsys) == f"minidl.evaluate: {message}data/bee/ant\n"


def test_classes_without_an_image_are_named_under_the_table(here, capsys):
    put(here / "data", {"ant": 10, "bee": 10, "cat": 10})
    train("folder", "data")
    put(here / "more", {"bee": 3})
    capsys.readouterr()
    assert evaluate(["run", "--quiet", "--data-dir", "more"]) == 0
    assert "\nno image of: ant, cat\n" in capsys.readouterr().out
    assert evaluate(["run", "--quiet"]) == 0
    assert "no image of" not in capsys.readouterr().out


def test_a_loaded_network_is_printed_with_the_shapes_of_its_outputs_and_stays_as_it_is(here):
    drawn(here)
    train("folder", "data")
    net = minidl.load("run")
    first, *table = str(net).splitlines()
    assert first == repr(net)
    assert table == str(net.network).splitlines()
    assert table[0].split() == ["layer", "output", "parameters"]
    assert any("5 × 6 × 6" in row for row in table)
    assert all(vars(layer)["_output_shape"] is None for _, layer in net.network.named_layers())


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_stack_of_grey_images_is_never_taken_for_one_image(here, count):
    drawn(here)
    train("folder", "data")
    net = minidl.load("run")
    grey = rng.integers(0, 256, (count, 32, 32), np.uint8)
    what = r"may be one image in colour or three grey ones; give images\[None\]" if count == 3 else "must be one image"
    with pytest.raises(ValueError, match=rf"predict: an array .*{what}.* list\(images\) for "):
        net.predict(grey)
    found = [net.predict(images).probabilities for images in (list(grey), grey[:, None], grey[..., None])]
    assert [len(each) for each in found] == [count] * 3
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    colour = rng.integers(0, 256, (3, 32, 32), np.uint8)
    for one in (colour[None], [colour], np.moveaxis(colour, 0, 2)):
        np.testing.assert_array_equal(net.inputs(one), colour[None])
