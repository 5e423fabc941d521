"""Image files in one folder per class: what is found, how it is cropped, processes, corrupt files, bounded memory."""

import math
import os
import shutil

import numpy as np
import pytest
from data_files import REAL, assert_statistics
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tolerance import assert_close, terms

from minidl.data import DataError, channel_statistics, load_task
from minidl.data.fit import fit_file
from minidl.data.image_decode import Corrupt, decode, random_box, square
from minidl.data.image_files import Decoder, ImageFiles, ImageLoader
from minidl.data.image_folder import load_images
from minidl.train.__main__ import main

SIZE = 7  # of the squares; 8 is then the shorter side before the centre crop


def picture(seed, width=12, height=8, mode="RGB"):
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode=None)


@pytest.fixture
def folder(tmp_path):
    """Three classes with 5, 4 and 3 training images and 3, 2 and 1 test images."""
    for split, counts in (("train", (5, 4, 3)), ("val", (3, 2, 1))):
        for label, count in enumerate(counts):
            place = tmp_path / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                picture(100 * label + 10 * (split == "val") + i).save(place / f"{i}.png")
    return tmp_path


def loader(task, batch_size=4, split="train", **options):
    mean, std = channel_statistics(task.train)
    rng = np.random.default_rng(3)
    return ImageLoader(getattr(task, split), batch_size, mean=mean, std=std, rng=rng, **options)


def test_classes_are_sorted_and_images_are_in_the_order_of_their_names(folder):
    more = folder / "train" / "class1" / "images"
    more.mkdir()
    picture(7).save(more / "a.JPEG", format="JPEG")
    (folder / "train" / "class1" / "notes.txt").write_text("no image")
    task = load_images(folder, size=SIZE, workers=1)
    assert (task.num_classes, task.class_names) == (3, ("class0", "class1", "class2"))
    assert task.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 3
    assert task.test.labels.tolist() == [0, 0, 0, 1, 1, 2]
    names = [os.fsdecode(name) for name in task.train.images.names]
    assert names[5:10] == ["class1/0.png", "class1/1.png", "class1/2.png", "class1/3.png", "class1/images/a.JPEG"]
    assert task.train.images.shape == (13, 3, SIZE, SIZE)
    assert task.describe() == [f"imagenet: 13 training images, 6 test images of 3 classes, from {folder}"]


def test_the_test_image_is_the_centre_of_the_resized_one(folder):
    task = load_images(folder, size=SIZE, workers=1)
    pixels = np.asarray(Image.open(folder / "val" / "class1" / "1.png"))  # 8 rows: not resized
    np.testing.assert_array_equal(task.test.images[4], np.moveaxis(pixels[0:7, 2:9], -1, 0))
    wide = Image.fromarray(np.repeat(np.repeat(pixels, 3, axis=0), 3, axis=1))  # 24 rows, resized to 8
    shrunk = np.asarray(wide.resize((12, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(square(wide, SIZE, None), np.moveaxis(shrunk[0:7, 2:9], -1, 0))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1", "I;16"])
@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (1, 1), (8, 8)])
def test_every_kind_and_shape_of_image_becomes_a_square_of_three_channels(mode, shape):
    image = Image.new("RGB", shape, (200, 100, 50)).convert("L" if mode == "I;16" else mode).convert(mode)
    for rng in (None, np.random.default_rng(1)):
        got = square(image, SIZE, rng)
        assert (got.shape, got.dtype, got.flags.c_contiguous) == ((3, SIZE, SIZE), np.uint8, True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_the_test_image_is_the_one_that_predict_sees(tmp_path, mode):
    """Depth, transparency and orientation are not left out by the one and taken by the other."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 4), np.uint8)
    image = Image.fromarray(pixels).convert("RGB").convert(mode) if mode != "I;16" else None
    image = Image.fromarray(pixels) if mode == "RGBA" else image or Image.fromarray(pixels[..., 0] * np.uint16(257))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, exif=exif)
    np.testing.assert_array_equal(decode(str(path), SIZE, None), fit_file(path, SIZE, "imagenet"))


@given(width=st.integers(1, 600), height=st.integers(1, 600), seed=st.integers(0, 10**6))
def test_a_random_box_lies_in_the_image(width, height, seed):
    left, upper, right, lower = random_box(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height


def test_random_boxes_have_the_areas_and_ratios_of_the_rule():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(3000, 3000, rng) for _ in range(4000)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, log_ratio = w * h / 9e6, np.log(w / h)
    assert area.min() > 0.079
    assert 0.79 < np.abs(log_ratio).max() / math.log(4 / 3) * 0.8 < 0.81
    small = log_ratio[area < 0.5]  # whatever their ratio, these fit: both laws are uniform
    assert abs(small.mean()) < 5 * math.log(4 / 3) / math.sqrt(3 * len(small))
    assert abs(area[area < 0.5].mean() - 0.29) < 5 * 0.42 / math.sqrt(12 * len(small))
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    assert abs(middle.mean() - 1500) < 5 * 870 / math.sqrt(len(boxes))


def test_where_no_draw_fits_the_box_is_the_largest_centred_one():
    assert random_box(1000, 1, np.random.default_rng(0)) in [(499, 0, 500, 1), (500, 0, 501, 1)]


def test_half_of_the_random_crops_are_mirrored():
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (8, 1)))  # brighter to the right
    rng = np.random.default_rng(0)
    rising = [int(got[0, 0, -1]) > int(got[0, 0, 0]) for got in (square(image, 8, rng) for _ in range(400))]
    assert abs(sum(rising) - 200) < 5 * 10


def test_colour_statistics_are_those_of_the_centre_crops(folder):
    task = load_images(folder, size=SIZE, workers=1)
    pixels = task.train.images[:] / 255
    mean, std = channel_statistics(task.train)
    assert_statistics(mean, std, pixels.transpose(1, 0, 2, 3).reshape(3, -1))


def batches(loader):
    return [(x.copy("K"), labels.tolist()) for x, labels, _ in loader]


def same(some, others):
    return len(some) == len(others) and all(
        np.array_equal(x, other) and labels == other_labels
        for (x, labels), (other, other_labels) in zip(some, others, strict=True)
    )


def test_batches_do_not_depend_on_the_processes_and_differ_from_epoch_to_epoch(folder):
    one = loader(load_images(folder, size=SIZE, workers=1), random_crop=True, drop_last=True)
    task = load_images(folder, size=SIZE, workers=2)
    two = loader(task, random_crop=True, drop_last=True)
    first, second = batches(one), batches(one)
    assert [x.shape for x, _ in first] == [(4, 3, SIZE, SIZE)] * 3
    assert same(first, batches(two))
    assert same(second, batches(two))
    assert not same(first, second)
    assert first[0][0].strides[0] == first[0][0].itemsize  # the batch is innermost in memory
    task.train.images.decoder.close()


def test_a_test_batch_is_the_normalised_centre_crops_in_order(folder):
    task = load_images(folder, size=SIZE, workers=1)
    mean, std = channel_statistics(task.train)
    got = batches(loader(task, 4, "test", shuffle=False))
    assert [labels for _, labels in got] == [[0, 0, 0, 1], [1, 2]]
    want = (task.test.images[:] / 255 - mean[:, None, None]) / std[:, None, None]
    largest = ((1 + mean) / std).max()
    assert_close(np.concatenate([x for x, _ in got]), want, terms(8, largest, "float32"))


def test_a_loader_goes_on_where_its_state_was_taken(folder):
    task = load_images(folder, size=SIZE, workers=1)
    whole = loader(task, random_crop=True)
    iterator = iter(whole)
    next(iterator)
    state = whole.state()
    rest = batches(iterator)
    other = loader(task, random_crop=True)
    other.load_state(state)
    assert same(rest, batches(other))
    assert same(batches(whole), batches(other))


def test_no_more_than_a_few_batches_are_decoded_ahead(folder, monkeypatch):
    task = load_images(folder, size=SIZE, workers=1)
    started, most = 0, []
    start = ImageFiles.start

    def counted(self, chosen, seeds=None):
        nonlocal started
        started += 1
        return start(self, chosen, seeds)

    monkeypatch.setattr(ImageFiles, "start", counted)
    for taken, _ in enumerate(loader(task, batch_size=1, prefetch=2), 1):
        most.append(started - taken)
    assert len(most) == 12
    assert max(most) == 2


def damage(folder, *names):
    for name in names:
        path = folder / name
        path.write_bytes(path.read_bytes()[:60])


def test_a_corrupt_image_is_refused_by_name(folder):
    damage(folder, "train/class0/2.png")
    with pytest.raises(DataError, match=r"class0/2\.png: it cannot be decoded: .+; get the file again, remove it, or"):
        load_images(folder, size=SIZE, workers=1)


def test_a_corrupt_image_is_named_once_and_skipped_where_that_is_asked_for(folder, capsys):
    damage(folder, "train/class0/2.png", "val/class1/0.png")
    (folder / "train" / "class2" / "0.png").write_text("no image at all")
    task = load_images(folder, size=SIZE, corrupt="skip", workers=1)
    trained = loader(task, random_crop=True, drop_last=True)
    for _ in range(2):
        got = batches(trained)
        assert [x.shape[0] for x, _ in got] == [4, 4, 4]
    tested = batches(loader(task, 4, "test", shuffle=False))
    assert [labels for _, labels in tested] == [[0, 0, 0], [1, 2]]
    assert (task.test.images[3] == 0).all()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for name in ("train/class0/2.png", "train/class2/0.png", "val/class1/0.png"):
        assert sum(name in line and line.endswith("; skipped") for line in lines) == 1


def test_a_batch_takes_a_whole_image_in_the_place_of_a_corrupt_one(folder):
    damage(folder, "train/class0/2.png", "train/class0/3.png")
    task = load_images(folder, size=SIZE, corrupt="skip", workers=1)
    one = loader(task, 5, random_crop=True, shuffle=False)
    x, labels, _ = next(iter(one))
    assert labels.tolist() == [0] * 5
    np.testing.assert_array_equal(x[2], x[4])
    np.testing.assert_array_equal(x[3], x[4])
    assert not np.array_equal(x[0], x[1])


def test_a_batch_without_a_whole_image_is_an_error(folder):
    task = load_images(folder, size=SIZE, corrupt="skip", workers=1)
    damage(folder, *(f"val/class0/{i}.png" for i in range(3)))
    with pytest.raises(DataError, match="none of the 3 images of a batch can be decoded"):
        next(iter(loader(task, 3, "test", shuffle=False)))


def test_a_process_that_dies_ends_the_loading_with_one_line(folder):
    task = load_images(folder, size=SIZE, workers=2)
    pool = task.train.images.decoder._running()
    pool.submit(os._exit, 1).exception()
    with pytest.raises(DataError, match=r"a process that decodes images died.*lower --threads"):
        task.train.images[:]
    task.train.images.decoder.close()


def test_a_file_that_is_gone_counts_as_corrupt(tmp_path):
    got = decode(str(tmp_path / "gone.png"), SIZE, None)
    assert isinstance(got, Corrupt)
    assert "gone.png: it cannot be decoded: No such file" in str(got)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("", "no such data folder; give --data-dir an existing one"),
        ("train", r"no image folders found; put the images in train/CLASS and val/CLASS there"),
        ("val", r"no image folders found; put the images in train/CLASS and val/CLASS there"),
        ("train/class1", r"the class class1 has no training images; put some in train/class1"),
    ],
)
def test_a_folder_without_its_parts_is_refused_with_the_cure(folder, missing, message):
    shutil.rmtree(folder / missing)
    with pytest.raises(DataError, match=message):
        load_images(folder, size=SIZE, workers=1)


def test_a_split_without_images_is_refused(folder):
    for path in (folder / "val").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"val: no image with a name in \.jpeg \.jpg \.png"):
        load_images(folder, size=SIZE, workers=1)


def test_a_decoder_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="workers must be >= 1 and corrupt one of refuse, skip, got 0 and 'skip'"):
        Decoder(0, "skip")


def test_imagenet_is_not_downloaded():
    with pytest.raises(DataError, match="imagenet: cannot be downloaded; give --data-dir DIR with train/CLASS"):
        load_task("imagenet")


def train(*arguments):
    return main(["resnet20", "imagenet", "--threads", "1", "--batch-size", "4", "--quiet", *map(str, arguments)])


def test_a_network_is_trained_on_the_files_and_resumed(folder, tmp_path, capsys):
    out = tmp_path / "run"
    options = ("--data-dir", folder, "--image-size", 8, "--norm", "bn", "--updates", 4, "--out")
    assert train(*options, out) == 0
    last = capsys.readouterr().out
    assert "test error" in last
    assert "top-5" not in last  # of three classes
    before = (out / "metrics.jsonl").read_text("utf-8")
    (out / "summary.json").unlink()
    assert train("--out", out, "--resume") == 0
    assert (out / "metrics.jsonl").read_text("utf-8") == before


def test_a_size_that_the_network_does_not_take_is_refused(folder, tmp_path, capsys):
    arguments = ["--data-dir", str(folder), "--image-size", "9", "--threads", "1", "--batch-size", "4"]
    assert main(["vgg13", "imagenet", "--norm", "bn", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert "--image-size 9 does not fit vgg13: " in capsys.readouterr().err


@pytest.mark.skipif(REAL is None, reason="needs MINIDL_TEST_DATA, a folder with the data sets")
def test_the_sample_of_tiny_imagenet_is_read():
    task = load_task("imagenet", REAL / "tiny-imagenet-32", image_size=32, workers=2)
    assert (task.num_classes, len(task.train), len(task.test), task.top5) == (10, 1000, 500, True)
    assert task.class_names[0] == "n01443537"
    assert np.bincount(task.train.labels).tolist() == [100] * 10
    mean, std = channel_statistics(task.train)
    assert (mean > 0.35).all()
    assert (mean < 0.55).all()
    assert (std > 0.2).all()
    assert (std < 0.35).all()
    got = batches(loader(task, 128, random_crop=True, drop_last=True))
    assert [x.shape for x, _ in got] == [(128, 3, 32, 32)] * 7
    values = np.concatenate([x.ravel() for x, _ in got])
    assert abs(values.mean()) < 0.2
    assert 0.7 < values.std() < 1.2
    task.train.images.decoder.close()
