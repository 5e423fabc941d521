"""`minidl evaluate RUN` measures the very test set of the run, or says what has changed in its data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from photo_run import put_noise, train_on
from PIL import Image

from minidl.data import noted
from minidl.data.find_images import find_images
from minidl.evaluate.__main__ import main as evaluate
from minidl.predict.__main__ import main as predict
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves", "here")


def measured(folder="evaluation"):
    return json.loads(Path("run", folder, "evaluation.json").read_text("utf-8"))


def said(capsys):
    """Return what a command said on stderr, which is one line."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_images_that_training_skipped_are_skipped_and_no_training_image_is_measured(here, capsys):
    put_noise(here / "photos", {"ant": 12, "bee": 12})
    for name in ("03.png", "07.png"):
        (here / "photos" / "bee" / name).write_text("a letter")
    trainer = train_on("folder", "photos", corrupt="skip")
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
        put_noise(here / "photos" / part, {"ant": 12, "bee": 12})
        for name in ("03.png", "07.png"):
            (here / "photos" / part / "bee" / name).write_text("a letter")
    trainer = train_on("folder", "photos", corrupt="skip")
    (here / "photos" / ("" if split == "drawn" else "train") / "bee" / "03.png").unlink()
    (here / "photos" / ("" if split == "drawn" else "test") / "bee" / "07.png").unlink()
    assert evaluate(["run", "--quiet"]) == 0
    assert measured()["own_test_set"]
    assert measured()["test_loss"] == trainer.history[-1]["test_loss"]
    assert main(["--out", "run", "--resume", "--updates", "4", "--quiet"]) == 0


def test_of_images_that_are_read_late_an_empty_file_stands_for_one_that_was_skipped(here, capsys):
    for part in ("train", "val"):
        put_noise(here / "data" / part, {"ant": 6, "bee": 6})
    bad = here / "data" / "val" / "bee" / "03.png"
    bad.write_text("a letter")
    train_on("imagenet", "data", corrupt="skip")
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
        put_noise(here / "photos" / part, {"ant": count, "bee": count})


CHANGES = {
    "one": (lambda folder: put_noise(folder, {"bee": 1}), ": test/bee/00.png changed; "),
    "many": (
        lambda folder: put_noise(folder, {"ant": 4, "bee": 3}),
        "ant/03.png changed, test/bee/00.png changed, and 2 more;",
    ),
    "new": (lambda folder: put_noise(folder, {"bee": 5}), "(test/bee/00.png changed, test/bee/01.png changed, test/"),
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
    train_on("folder", "photos")
    change[0](here / "photos" / "test")
    capsys.readouterr()
    for command in (lambda: main(["--out", "run", "--resume", "--quiet"]), lambda: evaluate(["run", "--quiet"])):
        assert command() == 4
        assert change[1] in said(capsys)


def test_an_image_that_is_drawn_is_named_whichever_set_it_was_in(here, capsys):
    put_noise(here / "photos", {"ant": 10, "bee": 10})
    train_on("folder", "photos")
    Image.new("RGB", (32, 32)).save(here / "photos/ant/05a.png")  # between the others: another split
    capsys.readouterr()
    assert main(["--out", "run", "--resume", "--quiet"]) == 4
    assert "ant: 9 training images now, 8 then (ant/05a.png is new); put" in said(capsys)


def test_of_very_many_images_the_class_is_named_and_the_record_stays_small(here, capsys, monkeypatch):
    monkeypatch.setattr(noted, "FEW", 23)
    two_sets(here)
    train_on("folder", "photos")
    there = json.loads(Path("run", "config.json").read_text("utf-8"))
    assert {len(text) for each in there["digests"].values() for text in each.values()} == {len("class:") + 16}
    put_noise(here / "photos/test", {"bee": 1})
    capsys.readouterr()
    assert evaluate(["run", "--quiet"]) == 4
    assert "/photos: images of bee changed; put it back as it was" in said(capsys)


@pytest.mark.parametrize("digests", [3, {"test": 3}, {"train": {}, "test": {"ant": 3}}, {}, {"other": {"ant": ""}}])
def test_a_record_of_images_may_hold_anything(here, capsys, digests):
    two_sets(here)
    train_on("folder", "photos")
    there = json.loads(Path("run", "config.json").read_text("utf-8"))
    Path("run", "config.json").write_text(json.dumps(there | {"digests": digests}), "utf-8")
    put_noise(here / "photos/test", {"ant": 1})
    capsys.readouterr()
    assert evaluate(["run", "--quiet"]) == 4
    assert "as many test images, and others among them" in said(capsys)


def test_images_that_cannot_be_read_are_skipped_where_that_is_asked_for(here, capsys):
    put_noise(here / "photos", {"ant": 10, "bee": 10})
    train_on("folder", "photos")
    put_noise(here / "more", {"ant": 3, "bee": 3})
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
    put_noise(here / "data", {"ant": 10, "bee": 10})
    return (
        "folder",
        lambda: put_noise(here / "data", {"bee": 15}),
        "bee: 12 training and 3 test images now, 8 and 2 then",
    )


def given(here):
    for part, count in (("train", 6), ("test", 3)):
        put_noise(here / "data" / part, {"ant": count, "bee": count})
    return "folder", lambda: (here / "data/test/ant/01.png").unlink(), "ant: 2 test images now, 3 then"


def other_pixels(here):
    task, *_ = given(here)
    return task, lambda: put_noise(here / "data" / "test", {"bee": 1}), ": test/bee/00.png changed; put it back"


def a_training_image(here):
    task, *_ = given(here)
    return task, lambda: put_noise(here / "data" / "train", {"bee": 1}), ": train/bee/00.png changed; put it back"


def a_training_image_that_was_drawn(here):
    put_noise(here / "data", {"ant": 10, "bee": 10})
    path = find_images(here / "data").paths["train"][0]
    return "folder", lambda: Image.new("RGB", (32, 32)).save(path), f": ant/{Path(path).name} changed; put it back"


def a_training_image_more(here):
    task, *_ = given(here)
    what = "bee: 7 training images now, 6 then (train/bee/zz.png is new); put it back"
    return task, lambda: Image.new("RGB", (32, 32)).save(here / "data/train/bee/zz.png"), what


def a_training_image_file(here):
    task, *_ = image_files(here)
    return task, lambda: put_noise(here / "data" / "train", {"bee": 7}), "imagenet: 13 training images now, 12 then"


def gone(here):
    put_noise(here / "data", {"ant": 10, "bee": 10, "cat": 10})
    return "folder", lambda: shutil.rmtree(here / "data" / "cat"), "the class cat is gone"


def arrays(here):
    def write(count):
        images = np.random.default_rng(count).integers(0, 256, (count, 32, 32), np.uint8)
        np.savez(here / "data.npz", images=images, labels=np.arange(count) % 2)

    write(20)
    return "arrays", lambda: write(30), "0: 12 training and 3 test images now, 8 and 2 then; 1: 12 training"


def image_files(here):
    for part, count in (("train", 6), ("val", 3)):
        put_noise(here / "data" / part, {"ant": count, "bee": count})
    return "imagenet", lambda: put_noise(here / "data" / "val", {"bee": 4}), "imagenet: 7 test images now, 6 then"


@pytest.mark.parametrize(
    "data",
    [
        *(drawn, given, other_pixels, gone, arrays, image_files),
        *(a_training_image, a_training_image_that_was_drawn, a_training_image_more, a_training_image_file),
    ],
)
def test_data_that_changed_is_refused_with_what_changed_and_the_result_from_before_stays(here, capsys, data):
    task, change, what = data(here)
    train_on(task, "data.npz" if task == "arrays" else "data")
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
    train_on("folder", "data")
    change()
    assert evaluate(["run", "--quiet", "--data-dir", "data"]) == 0
    out = capsys.readouterr().out
    assert "on folder, not the run's test set: the run's folder has changed, and all its images are taken, those" in out
    assert " of 25), " in out
    assert not measured("evaluation-data")["own_test_set"]


def test_images_in_no_folder_of_a_class_get_the_cure_that_training_gives(here, capsys):
    drawn(here)
    train_on("folder", "data")
    assert evaluate(["run", "--quiet", "--data-dir", "data/bee"]) == 4
    message = "data/bee: its images lie in no folder; put the images of each class in a folder of its own, such as "
    assert said(capsys) == f"minidl.evaluate: {message}data/bee/ant\n"


def test_classes_without_an_image_are_named_under_the_table(here, capsys):
    put_noise(here / "data", {"ant": 10, "bee": 10, "cat": 10})
    train_on("folder", "data")
    put_noise(here / "more", {"bee": 3})
    capsys.readouterr()
    assert evaluate(["run", "--quiet", "--data-dir", "more"]) == 0
    assert "\nno image of: ant, cat\n" in capsys.readouterr().out
    assert evaluate(["run", "--quiet"]) == 0
    assert "no image of" not in capsys.readouterr().out
