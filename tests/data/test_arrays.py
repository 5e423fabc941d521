"""The task `arrays`: images and labels from Python or an .npz file."""

import numpy as np
import pytest
from PIL import Image

from minidl.data import DataError, arrays_task, load_task
from minidl.data.arrays import load_npz
from minidl.data.fit import fit

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (11, 5, 7, 3), np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1])


def test_grey_and_colour_in_every_layout_become_three_channels():
    colour, grey = np.moveaxis(X, 3, 1), X[..., 0]
    repeated = np.stack([grey] * 3, axis=1)
    layouts = ((X, colour), (colour, colour), (grey, repeated), (grey[..., None], repeated), (grey[:, None], repeated))
    for given, made in layouts:
        task = arrays_task(given, Y, given[:4], Y[:4])
        np.testing.assert_array_equal(task.train.images, made)
        np.testing.assert_array_equal(task.test.images, made[:4])
        assert not task.train.images.flags.writeable
    assert X.flags.writeable


def test_a_given_size_is_made_as_pictures_are():
    task = arrays_task(X, Y, X[:2], Y[:2], size=4)
    np.testing.assert_array_equal(task.train.images[3], fit(Image.fromarray(X[3]), 4))
    grey = arrays_task(X[..., 1], Y, size=4, test_share=0.5)
    assert grey.train.images.shape == (5, 3, 4, 4)  # 2 of 4, 2 of 4 and 2 of 3 (1.5 is rounded up) are drawn


def test_without_a_test_set_one_is_drawn_and_recorded():
    task = arrays_task(X, Y, seed=3, test_share=0.3)
    assert task.facts["split"] == "drawn: 0.3 of each class to test, seed 3"
    assert task.facts["test_images_by_class"] == {"0": 1, "1": 1, "2": 1}
    every = sorted(image.tobytes() for part in (task.train, task.test) for image in part.images)
    assert every == sorted(image.tobytes() for image in np.ascontiguousarray(np.moveaxis(X, 3, 1)))


def test_labels_may_be_names_or_a_column_of_numbers():
    names = np.array(["dog", "ant", "cat"])[Y]
    task = arrays_task(X, names, X[:3], names[:3])
    assert task.class_names == ("ant", "cat", "dog")
    assert task.test.labels.tolist() == [2, 0, 1]
    column = arrays_task(X, Y[:, None], X[:3], Y[:3, None], class_names=["dog", "ant", "cat"])
    assert (column.class_names, column.test.labels.tolist()) == (("dog", "ant", "cat"), [0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X / 255, Y), {}, r"training images must be uint8, got float64; give uint8, such as np.round\(255 \* x\)"),
        (([X[0, 0], X[0, 0, :2]], [0, 1]), {}, r"must all be of one shape, got \(7, 3\), \(2, 3\); make them one size"),
        (([X[0], [[1], [1, 2]]], [0, 1]), {}, "must all be of one shape, got several; make them one size"),
        ((X, [[0], [1, 2]]), {}, r"labels must all be of one shape, got \(1,\), \(2,\); give one label an image"),
        ((None, None), {}, "training images must be an array, got None; give both images and labels"),
        ((X, None), {}, "training labels must be an array, got None; give both images and labels"),
        ((X[0, 0], Y), {}, r"training images must be \(M, H, W\), .* got \(7, 3\); reshape them"),
        ((X[:0], Y[:0]), {}, r"there must be training images, got \(0, 3, 5, 7\); give at least one"),
        ((X, Y[:5]), {}, "11 training images have 5 labels; give one label an image"),
        ((X, Y + 0.5), {}, r"training labels must be \(M,\) of whole numbers or of names, got float64"),
        ((X, Y, X), {}, "test images and test labels go together, got one of them; give both or none"),
        ((X, Y, X, Y + 1), {}, "labels must be 0 to 2, got 0 to 3; count from 0"),
        ((X, Y - 1), {}, "labels must be 0 to 1, got -1 to 1; count from 0"),
        ((X, 0 * Y), {}, r"there must be two classes or more, each with a name of its own, got \('0',\)"),
        (
            (X, Y),
            {"class_names": ["a", "b"]},
            "class_names must name each class that the labels have, 0 to 2, got 2 names, a",
        ),
        ((X, Y), {"class_names": [2]}, "class_names must be text, got .2.; give a name for each class"),
        ((X, Y), {"class_names": 3}, "class_names must be text, got 3; give a name for each class"),
        ((X, Y), {"class_names": ["a", "b", "b"]}, "two classes or more, each with a name of its own"),
        ((X, ["a", "b"] * 5 + ["c"], X[:1], ["d"]), {}, "the label 'd' is of no class of a, b, c; correct it"),
        ((X, Y, X[:1], ["a"]), {}, "training and test labels must be of one kind, numbers or names"),
        ((X[:4], [0, 0, 1, 2]), {}, "arrays: the class 1 has 1 image, and a split needs two at least"),
    ],
)
def test_arrays_that_cannot_be_used_get_one_line_with_the_cure(arguments, options, message):
    with pytest.raises(DataError, match=message) as found:
        arrays_task(*arguments, **options)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "names",
    [("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test")],
)
def test_an_npz_is_read_under_the_usual_names(tmp_path, names):
    arrays = dict(zip(names, (X, Y[:, None], X[:4], Y[:4, None]), strict=True))
    np.savez_compressed(tmp_path / "a.npz", **arrays, val_images=X, class_names=["x", "y", "z"])
    task = load_task("arrays", data_dir=tmp_path / "a.npz", image_size=4)
    same = arrays_task(X, Y, X[:4], Y[:4], class_names=["x", "y", "z"], size=4)
    np.testing.assert_array_equal(task.train.images, same.train.images)
    np.testing.assert_array_equal(task.test.labels, same.test.labels)
    assert (task.class_names, task.facts) == (same.class_names, same.facts)


def test_an_npz_without_a_test_set_is_divided_by_the_seed(tmp_path):
    np.savez(tmp_path / "a.npz", images=X, labels=Y)
    got = load_task("arrays", data_dir=tmp_path / "a.npz", image_size=4, seed=3)
    np.testing.assert_array_equal(got.test.images, arrays_task(X, Y, size=4, seed=3).test.images)


def test_an_npz_that_cannot_be_used_gets_one_line_with_the_cure(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"a.npz: no such file; give --data-dir the .npz file itself"):
        load_npz(path)
    with pytest.raises(DataError, match=r"is a folder; give --data-dir the .npz file itself"):
        load_npz(tmp_path)
    np.savez(path, pictures=X, labels=Y)
    with pytest.raises(DataError, match=r"its arrays must be train_images, .* got pictures, labels; rename them"):
        load_npz(path)
    np.savez(path, images=X, labels=np.array(["a", 1, None] * 3 + ["a", 1], object))
    with pytest.raises(DataError, match=r"a.npz: labels holds objects of Python, .* unpickled; store it as str or int"):
        load_npz(path)
    np.savez(path, images=np.array([X[0], X[1], None], object), labels=Y[:3])
    with pytest.raises(DataError, match=r"a.npz: images holds objects of Python, .* unpickled; store it as uint8"):
        load_npz(path)
    np.savez(path, images=X, labels=Y)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"a.npz: cannot be read as .npz .*; write it anew"):
        load_npz(path)
    np.save(tmp_path / "b.npy", X)
    with pytest.raises(
        DataError, match=r"b.npy: one array alone, .* np.savez\(.b.npz., train_images=images, train_labels=labels\)"
    ):
        load_npz(tmp_path / "b.npy")


@pytest.mark.parametrize("size", [0, -3, 32.0, "32", True, 10**6])
def test_a_size_that_is_none_gets_one_line_with_the_cure(size):
    with pytest.raises(DataError, match=r"^arrays: size must be .*got .*; give the side of the images, such as 32$"):
        arrays_task(X, Y, size=size)
