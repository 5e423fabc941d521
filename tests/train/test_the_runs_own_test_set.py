"""`minidl evaluate RUN` measures the very test set of the run, or says what has changed in its data."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import make_tiny, tiny_config
from tolerance import assert_close, terms

import minidl
from minidl.data import DataError, arrays_task, load_task, noted
from minidl.data.find_images import find_images
from minidl.evaluate.__main__ import main as evaluate
from minidl.models import MODELS
from minidl.predict.__main__ import main as predict
from minidl.train import Trainer
from minidl.train.__main__ import main

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


@pytest.mark.parametrize("split", ["drawn", "given"])
def test_an_image_that_was_skipped_may_be_removed(here, split):
    for part in ("",) if split == "drawn" else ("train", "test"):
        put(here / "photos" / part, {"ant": 12, "bee": 12})
        for name in ("03.png", "07.png"):
            (here / "photos" / part / "bee" / name).write_text("a letter")
    trainer = train("folder", "photos", corrupt="skip")
    (here / "photos" / ("" if split == "drawn" else "train") / "bee" / "03.png").unlink()
    (here / "photos" / ("" if split == "drawn" else "test") / "bee" / "07.png").unlink()
    assert evaluate(["run", "--quiet"]) == 0
    assert measured()["own_test_set"]
    assert measured()["test_loss"] == trainer.history[-1]["test_loss"]
    assert main(["--out", "run", "--resume", "--updates", "4", "--quiet"]) == 0


def test_of_images_that_are_read_late_an_empty_file_stands_for_one_that_was_skipped(here, capsys):
    for part in ("train", "val"):
        put(here / "data" / part, {"ant": 6, "bee": 6})
    bad = here / "data" / "val" / "bee" / "03.png"
    bad.write_text("a letter")
    train("imagenet", "data", corrupt="skip")
    bad.unlink()
    capsys.readouterr()
    assert evaluate(["run", "--quiet"]) == 4
    err = said(capsys)
    assert "imagenet: 11 test images now, 12 then; a file that was skipped counts as well, and an empty one of " in err
    assert main(["--out", "run", "--resume", "--updates", "4", "--quiet"]) == 4
    assert "11 test images now, 12 then; a file that was skipped counts as well, and an empty one of " in said(capsys)
    bad.write_bytes(b"")
    assert evaluate(["run", "--quiet"]) == 0
    assert measured()["own_test_set"]


def two_sets(here):
    for part, count in (("train", 8), ("test", 4)):
        put(here / "photos" / part, {"ant": count, "bee": count})


CHANGES = {
    "one": (lambda folder: put(folder, {"bee": 1}), ": test/bee/00.png changed; "),
    "many": (
        lambda folder: put(folder, {"ant": 4, "bee": 3}),
        "ant/03.png changed, test/bee/00.png changed, and 2 more;",
    ),
    "new": (lambda folder: put(folder, {"bee": 5}), "(test/bee/00.png changed, test/bee/01.png changed, test/"),
    "gone": (
        lambda folder: (folder / "ant/03.png").unlink(),
        "ant: 3 test images now, 4 then (1 image of ant is gone);",
    ),
    "moved": (
        lambda folder: (folder / "ant/00.png").rename(folder / "ant/x.png"),
        ": the images of ant have other names, and so another order; ",
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_images_that_changed_are_named(here, capsys, change):
    two_sets(here)
    train("folder", "photos")
    change[0](here / "photos" / "test")
    capsys.readouterr()
    for command in (lambda: main(["--out", "run", "--resume", "--quiet"]), lambda: evaluate(["run", "--quiet"])):
        assert command() == 4
        assert change[1] in said(capsys)


def test_an_image_that_is_drawn_is_named_whichever_set_it_was_in(here, capsys):
    put(here / "photos", {"ant": 10, "bee": 10})
    train("folder", "photos")
    Image.new("RGB", (32, 32)).save(here / "photos/ant/05a.png")  # between the others: another split
    capsys.readouterr()
    assert main(["--out", "run", "--resume", "--quiet"]) == 4
    assert "ant: 9 training images now, 8 then (ant/05a.png is new); put" in said(capsys)


def test_of_very_many_images_the_class_is_named_and_the_record_stays_small(here, capsys, monkeypatch):
    monkeypatch.setattr(noted, "FEW", 23)
    two_sets(here)
    train("folder", "photos")
    there = json.loads(Path("run", "config.json").read_text("utf-8"))
    assert {len(text) for each in there["digests"].values() for text in each.values()} == {len("class:") + 16}
    put(here / "photos/test", {"bee": 1})
    capsys.readouterr()
    assert evaluate(["run", "--quiet"]) == 4
    assert "/photos: images of bee changed; put it back as it was" in said(capsys)


@pytest.mark.parametrize("digests", [3, {"test": 3}, {"train": {}, "test": {"ant": 3}}, {}, {"other": {"ant": ""}}])
def test_a_record_of_images_may_hold_anything(here, capsys, digests):
    two_sets(here)
    train("folder", "photos")
    there = json.loads(Path("run", "config.json").read_text("utf-8"))
    Path("run", "config.json").write_text(json.dumps(there | {"digests": digests}), "utf-8")
    put(here / "photos/test", {"ant": 1})
    capsys.readouterr()
    assert evaluate(["run", "--quiet"]) == 4
    assert "as many test images, and others among them" in said(capsys)


def test_images_that_cannot_be_read_are_skipped_where_that_is_asked_for(here, capsys):
    put(here / "photos", {"ant": 10, "bee": 10})
    train("folder", "photos")
    put(here / "more", {"ant": 3, "bee": 3})
    (here / "more" / "bee" / "01.png").write_text("a letter")
    capsys.readouterr()
    assert evaluate(["run", "--data-dir", "more"]) == 4
    assert "bee/01.png: it cannot be decoded" in said(capsys)
    assert evaluate(["run", "--data-dir", "more", "--corrupt", "skip"]) == 0
    out = capsys.readouterr().out
    assert "bee/01.png: it cannot be decoded" in out
    assert " of 5), test loss" in out
    images = [f"more/bee/{i:02d}.png" for i in range(3)]
    for how, status, ends in (([], 4, "mend it, or leave it out\n"), (["--corrupt", "skip"], 0, "; skipped\n")):
        assert predict(["run", *images, *how]) == status
        out, err = capsys.readouterr()
        assert [line.split(":")[0] for line in out.splitlines()] == [images[0], images[2]]
        assert err.startswith("minidl.predict: more/bee/01.png: it cannot be decoded: no image of the formats ")
        assert err.endswith(ends)
    assert predict(["run", "more/bee/9.png", "--corrupt", "skip"]) == 4
    assert "no such file" in said(capsys)


def drawn(here):
    put(here / "data", {"ant": 10, "bee": 10})
    return "folder", lambda: put(here / "data", {"bee": 15}), "bee: 12 training and 3 test images now, 8 and 2 then"


def given(here):
    for part, count in (("train", 6), ("test", 3)):
        put(here / "data" / part, {"ant": count, "bee": count})
    return "folder", lambda: (here / "data/test/ant/01.png").unlink(), "ant: 2 test images now, 3 then"


def other_pixels(here):
    task, *_ = given(here)
    return task, lambda: put(here / "data" / "test", {"bee": 1}), ": test/bee/00.png changed; put it back"


def a_training_image(here):
    task, *_ = given(here)
    return task, lambda: put(here / "data" / "train", {"bee": 1}), ": train/bee/00.png changed; put it back"


def a_training_image_that_was_drawn(here):
    put(here / "data", {"ant": 10, "bee": 10})
    path = find_images(here / "data").paths["train"][0]
    return "folder", lambda: Image.new("RGB", (32, 32)).save(path), f": ant/{Path(path).name} changed; put it back"


def a_training_image_more(here):
    task, *_ = given(here)
    what = "bee: 7 training images now, 6 then (train/bee/zz.png is new); put it back"
    return task, lambda: Image.new("RGB", (32, 32)).save(here / "data/train/bee/zz.png"), what


def a_training_image_file(here):
    task, *_ = image_files(here)
    return task, lambda: put(here / "data" / "train", {"bee": 7}), "imagenet: 13 training images now, 12 then"


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


@pytest.mark.parametrize(
    "data",
    [
        *(drawn, given, other_pixels, gone, arrays, image_files),
        *(a_training_image, a_training_image_that_was_drawn, a_training_image_more, a_training_image_file),
    ],
)
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


class Tensor:
    """What stands for a tensor of PyTorch where that is not installed."""

    __module__ = "torch"


@pytest.fixture
def net(here):
    put(here / "photos", {"ant": 10, "bee": 10})
    train("folder", "photos")
    return minidl.load("run")


IMAGE = np.zeros((32, 32, 3), np.int64)
TENSOR = "got torch.Tensor; give an array of NumPy: images.cpu().numpy(), as uint8"
ASKED = [
    (None, TypeError, "images must be one image or several, got None; give a path, a Pillow image, a uint8 array, or"),
    (3, TypeError, "images must be one image or several, got int; give a path"),
    ({"a": 1}, TypeError, "images must be one image or several, got dict; give a path"),
    ([None], TypeError, "each image must be an image, got None; give a path"),
    ([7], TypeError, "each image must be an image, got int; give a path"),
    (b"\x89PNG", TypeError, "got bytes; open them first: PIL.Image.open(io.BytesIO(images))"),
    ([b"\x89PNG"], TypeError, "got bytes; open them first: PIL.Image.open(io.BytesIO(images))"),
    (Tensor(), TypeError, TENSOR),
    ([Tensor()], TypeError, TENSOR),
    (IMAGE, ValueError, "an array must be uint8, got int64; give x.astype(np.uint8)"),
    (np.stack([IMAGE] * 2), ValueError, "an array must be uint8, got int64; give x.astype(np.uint8)"),
    (
        IMAGE + 256,
        ValueError,
        "got int64; give pixels from 0, black, to 255, white, and then x.astype(np.uint8): these go from 256 to 256",
    ),
    (IMAGE - 1, ValueError, "got int64; give pixels from 0, black, to 255, white, and then x.astype(np.uint8): these"),
    (IMAGE.astype(np.uint16) + 65535, ValueError, "got uint16; give (x >> 8).astype(np.uint8) for 16 bits"),
    (
        IMAGE.astype(np.uint16),
        ValueError,
        "got uint16; give (x >> 8).astype(np.uint8) for 16 bits, or x.astype(np.uint8) if white is 255",
    ),
    (IMAGE / 2, ValueError, "got float64; give np.round(255 * x).astype(np.uint8) for x in [0, 1]"),
    (IMAGE > 0, ValueError, "got bool; give np.round(255 * x).astype(np.uint8) for x in [0, 1]"),
    ([["a", "b"]], ValueError, "got <U1; give a path, a Pillow image or an array of pixels"),
    ("photos/ant", DataError, "photos/ant: a folder, not an image; give the files in it, such as sorted(pathlib.Path("),
    (Path("photos"), DataError, "photos: a folder, not an image; give the files in it, such as sorted(pathlib.Path("),
]


def test_what_is_no_image_gets_one_line_with_the_cure(net):
    for images, error, message in ASKED:
        with pytest.raises(error, match=re.escape(message)) as found:
            net.predict(images)
        assert "\n" not in str(found.value)
        assert str(found.value).startswith(("predict: ", "photos"))


def test_the_likeliest_classes_need_the_names_of_all(net):
    found = net.predict(np.zeros((32, 32, 3), np.uint8))
    assert [name for name, _ in found.top(2, net.class_names)[0]] == found.names + [
        name for name in net.class_names if name != found.names[0]
    ]
    for names, given in ((["x"], "1"), (["x"] * 3, "3"), ("ab", "'ab'")):
        with pytest.raises(
            ValueError, match=rf"^top: class_names must be the names of all 2 classes, got {given}; pass"
        ):
            found.top(2, names)


def other_task(names, size=32, labels=None):
    images = rng.integers(0, 256, (4 * len(names), size, size, 3), np.uint8)
    labels = np.array(list(names) * 4) if labels is None else labels
    return arrays_task(images, labels, images, labels)


def test_a_task_is_measured_by_the_names_of_its_classes(net):
    own = load_task("folder", data_dir="photos", image_size=32).test
    x, labels = np.asarray(own.images), own.labels
    asked = arrays_task(x, labels, x, labels, class_names=["ant", "bee"])
    turned = arrays_task(x, 1 - labels, x, 1 - labels, class_names=["bee", "ant"])
    found = net.evaluate(asked)
    loss = -np.log(net.predict(x).probabilities[np.arange(len(x)), labels]).mean()
    assert_close(found["test_loss"], loss, terms(64, loss, "float32"))
    assert net.evaluate(turned) == found


NOT_MEASURED = [
    (lambda: other_task(["ant", "cow"]), DataError, "arrays: the network does not know the class cow, it knows ant, b"),
    (lambda: other_task(["ant", "bee", "cow"]), DataError, "arrays: the network does not know the class cow, it knows"),
    (
        lambda: other_task(["ant", "bee"], labels=np.arange(8) % 2),
        DataError,
        "not know the class 0, it knows ant, bee; give data of these classes; labels that are numbers get names by",
    ),
    (
        lambda: other_task(["ant", "bee"], size=28),
        DataError,
        "arrays: its images are (3, 28, 28), the network takes (3, 32, 32); make them 32 × 32: arrays_task(..., size=3",
    ),
    (
        lambda: "photos",
        TypeError,
        "evaluate: task must be a Task, got 'photos'; give minidl.data.load_task('folder', data_dir=..., image_size=32",
    ),
    (lambda: np.zeros(3), TypeError, "evaluate: task must be a Task, got ndarray; give "),
    (lambda: None, TypeError, "evaluate: task must be a Task, got NoneType; give "),
]


@pytest.mark.parametrize(("make", "error", "message"), NOT_MEASURED)
def test_what_is_no_task_of_the_network_gets_one_line_with_the_cure(net, make, error, message):
    with pytest.raises(error, match=re.escape(message)) as found:
        net.evaluate(make())
    assert "\n" not in str(found.value)


def test_a_tensor_of_pytorch_is_told_how_it_becomes_an_array(net):
    torch = pytest.importorskip("torch")
    for images in (torch.zeros(2, 3, 32, 32), [torch.zeros(32, 32, 3, dtype=torch.uint8)]):
        with pytest.raises(TypeError, match=re.escape(TENSOR)):
            net.predict(images)
