"""What a loaded network takes: images of every kind, names of classes and tasks, or one line with the cure."""

import re
from pathlib import Path

import numpy as np
import pytest
from photo_run import put_noise, train_on
from PIL import Image
from tolerance import assert_close, terms

import minidl
from minidl.data import DataError, arrays_task, load_task

pytestmark = pytest.mark.usefixtures("no_curves", "here")

rng = np.random.default_rng(4)


def test_a_loaded_network_is_printed_with_the_shapes_of_its_outputs_and_stays_as_it_is(here):
    put_noise(here / "data", {"ant": 10, "bee": 10})
    train_on("folder", "data")
    net = minidl.load("run")
    first, *table = str(net).splitlines()
    assert first == repr(net)
    assert table == str(net.network).splitlines()
    assert table[0].split() == ["layer", "output", "parameters"]
    assert any("5 × 6 × 6" in row for row in table)
    assert all(vars(layer)["_output_shape"] is None for _, layer in net.network.named_layers())


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_stack_of_grey_images_is_never_taken_for_one_image(here, count):
    put_noise(here / "data", {"ant": 10, "bee": 10})
    train_on("folder", "data")
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


def test_an_array_with_transparency_is_sent_to_pillow_which_takes_it(here):
    put_noise(here / "data", {"ant": 10, "bee": 10})
    train_on("folder", "data")
    net = minidl.load("run")
    clear = np.zeros((40, 32, 4), np.uint8)
    with pytest.raises(ValueError, match=r"transparency, give PIL\.Image\.fromarray\(images\), or list"):
        net.predict(clear)
    assert np.all(net.inputs(Image.fromarray(clear)) == 255)  # white shows


class Tensor:
    """What stands for a tensor of PyTorch where that is not installed."""

    __module__ = "torch"


@pytest.fixture
def net(here):
    put_noise(here / "photos", {"ant": 10, "bee": 10})
    train_on("folder", "photos")
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
