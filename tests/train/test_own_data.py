"""Runs on one's own images: what they record, when they may be resumed, from the command line and from Python."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_run import make_tiny, result, tiny_config

from minidl.data import arrays_task, data_sha256, load_task
from minidl.train import ConfigError, RunError, Trainer
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")

SHORT = ["tiny", "folder", "--batch-size", "4", "--updates", "6", "--eval-every", "4", "--threads", "1", "--quiet"]


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """Three classes of twelve images of several sizes; the cache is the test's own."""
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cat"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (32 + i, 35, 3)[: 2 + i % 2], np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i:02d}.png")
    return tmp_path / "photos"


def record(out):
    return json.loads((out / "config.json").read_text("utf-8"))


def test_a_run_on_a_folder_records_classes_counts_split_and_the_hash_of_the_whole_data(tmp_path, photos):
    assert main([*SHORT, "--data-dir", "photos", "--out", "run", "--seed", "3"]) == 0
    task = load_task("folder", data_dir=photos, image_size=32, seed=3, progress=False)
    there = record(tmp_path / "run")
    assert there["dataset"] == {
        "train_sha256": data_sha256(task.train),
        "test_sha256": data_sha256(task.test),
        "split": "drawn: 0.2 of each class to test, seed 3",
        "train_images_by_class": {"ant": 10, "bee": 10, "cat": 10},
        "test_images_by_class": {"ant": 2, "bee": 2, "cat": 2},
    }
    assert there["input"]["class_names"] == ["ant", "bee", "cat"]
    assert (there["input"]["fit"], there["input"]["shape"]) == ("square", [3, 32, 32])
    assert there["config"]["data_dir"] == str(photos)


def test_a_run_on_a_folder_is_resumed_bit_for_bit_and_its_data_is_found_from_anywhere(tmp_path, photos, monkeypatch):
    config = tiny_config(task="folder", image_size=32, data_dir="photos")
    Trainer(config, "whole", quiet=True).run()
    Trainer(config, "cut", quiet=True).run(until=7)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["--out", "../cut", "--resume", "--quiet"]) == 0
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def other_pixels(photos):
    pixels = np.array(Image.open(photos / "bee" / "05.png"))
    pixels[20, 20] ^= 1
    Image.fromarray(pixels).save(photos / "bee" / "05.png")


def another_name(photos):
    (photos / "bee").rename(photos / "bug")


def one_image_more(photos):
    Image.new("RGB", (9, 9)).save(photos / "bee" / "99.png")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_pixels, ": bee/05.png changed; put the data back"),
        (another_name, "bee: 0 training and 0 test images now, 10 and 2 then; bug: 10 training and 2 test images now"),
        (one_image_more, "bee: 3 test images now, 2 then"),
    ],
)
def test_data_that_changed_is_refused_on_resume(photos, capsys, change, what):
    assert main([*SHORT, "--data-dir", "photos", "--out", "run"]) == 0
    change(photos)
    capsys.readouterr()
    assert main(["--out", "run", "--resume", "--quiet"]) == 4
    err = capsys.readouterr().err
    assert "minidl.train: run was trained on other data: " in err
    assert what in err
    assert "; put the data back as it was, or start a new run with another --out (--from run starts it with" in err
    assert err.count("\n") == 1


def test_a_damaged_image_gets_one_line_or_is_skipped(photos, capsys):
    (photos / "bee" / "05.png").write_text("a letter")
    assert main([*SHORT, "--data-dir", "photos", "--out", "run"]) == 4
    err = capsys.readouterr().err
    assert "bee/05.png: it cannot be decoded: no image of the formats" in err
    assert err.count("\n") == 1
    assert main([*SHORT, "--data-dir", "photos", "--out", "run", "--corrupt", "skip"]) == 0


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        ([], 4, "folder: your own data; give --data-dir DIR with a folder of images for each class in it"),
        (["--sample"], 4, "folder: not in the bundled sample; give --data-dir DIR"),
        (["--data-dir", "photos/ant"], 4, "its images lie in no folder; put the images of each class in a folder"),
        (["--data-dir", "photos", "--test-share", "1"], 2, "--test-share must lie in (0, 1), got 1.0; try 0.2"),
        (["--data-dir", "photos", "--image-size", "3"], 2, "--image-size 3 does not fit tiny"),
        (["--data-dir", "photos", "--rarer", "folder/2"], 2, "--rarer takes a dataset of a task, folder has one alone"),
        (
            ["--data-dir", "photos", "--batch-size", "31"],
            2,
            "--batch-size must be at most 30, the training images found",
        ),
    ],
)
def test_a_mistake_gets_one_line_with_the_cure(capsys, args, status, message):
    assert main([*SHORT, "--out", "run", *args]) == status
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_npz_trains_from_the_command_line(tmp_path, photos):
    rng = np.random.default_rng(1)
    np.savez("a.npz", images=rng.integers(0, 256, (30, 28, 28), np.uint8), labels=np.arange(30) % 3)
    assert main(["tiny", "arrays", *SHORT[2:], "--data-dir", "a.npz", "--out", "run"]) == 0
    assert record(tmp_path / "run")["dataset"]["test_images_by_class"] == {"0": 2, "1": 2, "2": 2}


def test_arrays_from_python_have_all_that_a_run_has_and_are_resumed_with_them(tmp_path):
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 256, (30, 32, 32, 3), np.uint8), np.array(["x", "y", "z"] * 10)

    def trainer(out, resume=False, images=images):
        task = arrays_task(images, labels)
        return Trainer(tiny_config(), out, resume=resume, quiet=True, task=task)

    trainer("whole").run()
    trainer("cut").run(until=5)
    with pytest.raises(RunError, match=r"cut was trained from Python with data of its own; resume it there"):
        Trainer(tiny_config(task="arrays"), "cut", resume=True)
    with pytest.raises(RunError, match="other data: as many training and test images, and others among them"):
        trainer("cut", resume=True, images=images ^ 1)
    trainer("cut", resume=True).run()
    assert result(tmp_path / "cut") == result(tmp_path / "whole")
    assert record(tmp_path / "cut")["config"]["task"] == "arrays"


def test_arrays_of_a_size_or_a_network_of_outputs_that_do_not_fit_get_one_line():
    rng = np.random.default_rng(2)
    task = arrays_task(rng.integers(0, 256, (30, 28, 28), np.uint8), np.arange(30) % 3)
    with pytest.raises(ConfigError, match=r"--image-size 28 does not fit lenet: "):
        Trainer(tiny_config(model="lenet"), quiet=True, task=task)
    with pytest.raises(
        ConfigError,
        match=r"must give 3 logits per image, one per class, got \(4, 5\) for images .*; make it for num_cla",
    ):
        Trainer(
            tiny_config(norm="none"), quiet=True, task=task, model=lambda rng: make_tiny(5, 3, None, rng, "float32")
        )


def test_a_run_of_a_version_without_hashes_of_the_whole_data_goes_on(tmp_path, uninterrupted):
    from tiny_run import train

    whole = train(tmp_path / "run", until=2)
    there = record(tmp_path / "run")
    del there["dataset"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(there))
    checkpoint = next((tmp_path / "run" / "checkpoints").iterdir())
    checkpoint.unlink()  # its identity has the hashes; an older one's has not
    assert train(tmp_path / "run", resume=True).step == whole.total
    assert json.loads(result(tmp_path / "run")[1]) == json.loads(uninterrupted[1])
