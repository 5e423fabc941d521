"""What `minidl evaluate` and `minidl predict` print and write of a trained network."""

import csv
import json

import numpy as np
import pytest
from photo_run import CLASSES, folder_of_photos, put, run_on_photos
from PIL import Image
from tiny_run import tiny_config, tiny_task, train
from tolerance import assert_close, terms

import minidl
from minidl.data import DataError, download, load_task
from minidl.evaluate.__main__ import main as evaluate
from minidl.evaluate.confusion import Confusion
from minidl.evaluate.data import relabelled
from minidl.evaluate.picture import draw
from minidl.predict.__main__ import main as predict
from minidl.train import Trainer

__all__ = ["folder_of_photos", "run_on_photos"]  # fixtures
pytestmark = pytest.mark.usefixtures("no_curves")


def test_evaluate_gives_the_error_of_training_and_the_confusion_matrix_behind_it(run, capsys):
    out, trainer = run
    assert evaluate(["run"]) == 0
    printed = capsys.readouterr().out
    last = trainer.history[-1]
    assert f"test error {last['test_error']:.2f} % (" in printed
    assert "after update 14, on folder, the run's own test set" in printed
    result = json.loads((out / "evaluation" / "evaluation.json").read_text("utf-8"))
    assert (result["test_error"], result["test_loss"]) == (last["test_error"], last["test_loss"])
    assert result["own_test_set"] is True
    rows = list(csv.reader((out / "evaluation" / "confusion.csv").read_text("utf-8").splitlines()))
    assert rows[0][1:] == [row[0] for row in rows[1:]] == list(CLASSES)
    counts = np.array([row[1:] for row in rows[1:]], int)
    assert counts.sum(axis=1).tolist() == [2, 2, 2]
    assert_close(100 * (counts.sum() - np.trace(counts)) / counts.sum(), last["test_error"], terms(4, 100))
    classes = list(csv.DictReader((out / "evaluation" / "classes.csv").read_text("utf-8").splitlines()))
    assert [int(row["wrong"]) for row in classes] == (counts.sum(axis=1) - np.diag(counts)).tolist()
    assert (out / "evaluation" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_takes_all_images_of_another_folder_under_the_networks_labels(run, tmp_path, capsys):
    out, _ = run
    put(tmp_path / "more", {"cat": 3, "ant": 2}, start=1)
    assert evaluate(["run", "--data-dir", "more", "--quiet"]) == 0
    assert "on folder, not the run's test set" in capsys.readouterr().out
    rows = list(csv.reader((out / "evaluation-more" / "confusion.csv").read_text("utf-8").splitlines()))
    assert np.array([row[1:] for row in rows[1:]], int).sum(axis=1).tolist() == [2, 0, 3]
    net = minidl.load(out)
    expected = net.predict(sorted((tmp_path / "more").rglob("*.png"))).labels
    assert (
        np.array([row[1:] for row in rows[1:]], int).sum(axis=0).tolist() == np.bincount(expected, minlength=3).tolist()
    )


def test_evaluate_knows_the_runs_own_data_where_it_was_moved(run, folder, tmp_path, capsys):
    folder.rename(tmp_path / "moved")
    assert evaluate(["run", "--data-dir", "moved", "--quiet"]) == 0
    assert "the run's own test set" in capsys.readouterr().out
    assert evaluate(["run", "--quiet"]) == 4
    assert "photos: no such folder; give --data-dir DIR" in capsys.readouterr().err


def test_evaluate_measures_a_network_of_four_datasets_on_one_of_them():
    four, one = load_task("multitask", sample=True, progress=False), load_task("svhn", sample=True, progress=False)
    made = relabelled(one, four.class_names)
    mine = four.test.source == four.test.sources.index("svhn")
    np.testing.assert_array_equal(made.test.labels, four.test.labels[mine])
    np.testing.assert_array_equal(made.test.images, four.test.images[mine])
    assert relabelled(four, four.class_names) is four
    with pytest.raises(
        DataError, match=r"multitask: the network does not know the class mnist 0, it knows 0, 1, .*9; g"
    ):
        relabelled(four, one.class_names)


def test_evaluate_and_predict_make_a_mistake_one_line_with_a_cure_and_a_status(run, tmp_path, capsys):
    put(tmp_path / "others", {"dog": 2, "ant": 2})
    Trainer(tiny_config(length="1u", lr_drops=()), "given", quiet=True, task=tiny_task()).run()
    for command, args, status, message in (
        (evaluate, ["run", "--data-dir", "others"], 4, "others: the class dog is not one of these: ant, bee, cat"),
        (
            evaluate,
            ["run", "--task", "mnist", "--sample"],
            4,
            "mnist: the network does not know the class 0, it knows ant",
        ),
        (evaluate, ["nowhere"], 1, "nowhere: no such run or checkpoint; give a run's folder"),
        (evaluate, ["given"], 1, "given was trained from Python with data of its own; give --task and --data-dir"),
        (predict, ["nowhere", "photos"], 1, "nowhere: no such run or checkpoint; give a run's folder"),
        (predict, ["run", "cache"], 4, "cache: no image in this folder"),
        (predict, ["run", "photos", "--top", "0"], 2, "--top must be at least 1, got 0"),
    ):
        assert command(args) == status, args
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_classes_that_the_network_does_not_know_are_told_before_anything_is_downloaded(run, monkeypatch, capsys):
    def fetch(*args):
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr(download, "fetch", fetch)
    assert evaluate(["run", "--task", "svhn"]) == 4
    assert "svhn: the network does not know the class 0, it knows ant, bee, cat; " in capsys.readouterr().err


def test_a_picture_that_cannot_be_drawn_costs_nothing_else(run, monkeypatch, capsys):
    from minidl.evaluate import picture

    def broken(*args):
        raise ValueError("no fonts")

    monkeypatch.setattr(picture, "draw", broken)
    assert evaluate(["run", "--quiet"]) == 0
    assert "the picture could not be drawn (ValueError: no fonts); the numbers are whole" in capsys.readouterr().err
    assert {path.name for path in (run[0] / "evaluation").iterdir()} == {
        "evaluation.json",
        "classes.csv",
        "confusion.csv",
    }


@pytest.mark.parametrize("K", [2, 26, 61])
def test_a_matrix_of_any_size_and_with_any_names_is_drawn(K):
    confusion = Confusion([f'${i}_{i}^ 犬 \udcff, "q" a name that is far too long to be shown whole' for i in range(K)])
    confusion.counts[0, 1] = 3
    assert draw(confusion, "$x$").startswith(b"\x89PNG")
    rows = list(csv.reader(confusion.csv().splitlines()))
    assert rows[0][1:] == list(confusion.class_names)


def test_predict_prints_the_classes_and_probabilities_of_each_image_in_order(run, folder, capsys):
    net = minidl.load(run[0])
    (folder / "bee" / "zz.png").write_text("a letter")
    paths = ["photos/bee/03.png", "photos/cat/00.png", "photos/ant/01.png"]
    assert predict(["run", *paths, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, path, best in zip(lines, paths, net.predict(paths).top(2, CLASSES), strict=True):
        (first, p), (second, q) = best
        assert line == f"{path}: {first} {p:.3f} ({second} {q:.3f})"
    assert predict(["run", "photos/bee/zz.png", "photos", "--top", "1"]) == 4
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(p.relative_to(folder.parent))
        for p in sorted(folder.rglob("*.png")) if p.name != "zz.png"]  # fmt: skip
    assert err.count("bee/zz.png: it cannot be decoded: no image of the formats") == 2


def test_a_run_of_the_sample_is_measured_and_used_without_any_file(tmp_path, capsys):
    train(tmp_path / "tiny", until=2)
    Trainer(tiny_config(task="mnist", sample=True, length="2u"), "digits", quiet=True).run()
    assert evaluate(["digits", "--quiet"]) == 0
    assert "on mnist, the run's own test set" in capsys.readouterr().out
    sample = load_task("mnist", sample=True, progress=False)
    digit = sample.test.images[5]
    net = minidl.load("digits")
    Image.fromarray(np.asarray(digit[0, 2:30, 2:30])).save("digit.png")
    np.testing.assert_array_equal(net.inputs("digit.png")[0], digit)


def test_a_class_or_a_file_of_any_name_takes_one_line_and_turns_no_text_around(folder, monkeypatch, capsys):
    (folder / CLASSES[0]).rename(folder / "a\ngood.png: cat 1.000")
    (folder / CLASSES[1]).rename(folder / "\u202egnp")
    monkeypatch.setattr("minidl.train.plots.draw_run", lambda *args: None)
    config = tiny_config(task="folder", image_size=32, data_dir="photos", norm="mn", lr_drops=())
    Trainer(config, "odd", quiet=True).run()
    paths = sorted(map(str, folder.rglob("*.png")))
    assert predict(["odd", *paths]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(paths)
    shown = [path.translate({10: "\\n", 0x202E: "\\u202e"}) for path in paths]
    assert all(line.startswith(f"{path}: ") for line, path in zip(printed, shown, strict=True))
    assert evaluate(["odd"]) == 0
    printed = capsys.readouterr().out
    assert "\ngood" not in printed
    assert "\u202e" not in printed
    assert "a\\ngood.png: cat 1.000" in printed
