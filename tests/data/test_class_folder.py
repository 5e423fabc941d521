"""The task `folder`: what is found, what an image becomes, how it is divided, what is refused, what is kept."""

import hashlib
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minidl.data import DataError, cache, channel_statistics, class_folder, data_sha256, load_task
from minidl.data.class_folder import load_all, load_folder
from minidl.data.fit import FITS, fit, fit_file
from minidl.data.split import draw_split

S = 7


def picture(seed, width=9, height=7, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def put(folder, counts, start=0):
    """Write counts[name] images into folder/name."""
    for k, (name, count) in enumerate(counts.items()):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(start + 100 * k + i).save(place / f"{i:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    return put(tmp_path / "photos", {"cat": 5, "dog": 11, "bird": 2})


def load(folder, **options):
    return load_folder(folder, **{"size": S, "progress": False, **options})


def pixels(path):
    return fit_file(path, S)


# -- what is found ------------------------------------------------------------------------------------------------


def test_classes_are_the_folders_in_sorted_order_and_a_fifth_of_each_is_drawn_to_test(photos):
    task = load(photos)
    assert task.class_names == ("bird", "cat", "dog")
    assert np.bincount(task.train.labels).tolist() == [1, 4, 9]
    assert np.bincount(task.test.labels).tolist() == [1, 1, 2]
    assert task.facts == {
        "split": "drawn: 0.2 of each class to test, seed 0",
        "train_images_by_class": {"bird": 1, "cat": 4, "dog": 9},
        "test_images_by_class": {"bird": 1, "cat": 1, "dog": 2},
    }
    every = sorted(image.tobytes() for part in (task.train, task.test) for image in part.images)
    assert every == sorted(pixels(path).tobytes() for path in photos.rglob("*.png"))


def test_the_seed_draws_the_split_and_the_share_sets_its_size(photos):
    tests = [load(photos, seed=seed, test_share=0.5).test for seed in (0, 0, 1)]
    assert [len(part) for part in tests] == [10, 10, 10]  # 1 of 2, 3 of 5 (2.5 is rounded up), 6 of 11 (5.5)
    np.testing.assert_array_equal(tests[0].images, tests[1].images)
    assert not np.array_equal(tests[0].images, tests[2].images)


@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.floats(0.01, 0.99), st.integers(0, 99))
def test_each_class_has_images_on_both_sides_of_a_split_near_its_share(counts, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    test = draw_split(labels, [str(k) for k in range(len(counts))], share, seed, "here")
    for label, m in enumerate(counts):
        count = int(test[labels == label].sum())
        assert 1 <= count <= m - 1
        assert abs(count - share * m) <= 0.5 or count in (1, m - 1)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_a_split_that_is_there_is_taken(tmp_path, name):
    put(tmp_path / "d" / "train", {"a": 3, "b": 2})
    put(tmp_path / "d" / name, {"a": 1, "b": 2}, start=50)
    (tmp_path / "d" / name / "b" / "deeper").mkdir()
    picture(9, 30, 40).save(tmp_path / "d" / name / "b" / "deeper" / "x.JPG", format="JPEG")
    task = load(tmp_path / "d")
    assert task.facts["split"] == f"given: train and {name}"
    assert task.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert task.test.labels.tolist() == [0, 1, 1, 1]
    np.testing.assert_array_equal(task.test.images[-1], pixels(tmp_path / "d" / name / "b" / "deeper" / "x.JPG"))


def test_a_lone_train_folder_is_divided(tmp_path):
    put(tmp_path / "d" / "train", {"a": 3, "b": 2})
    task = load(tmp_path / "d")
    assert task.class_names == ("a", "b")
    assert (len(task.train), len(task.test)) == (3, 2)


def test_hidden_files_and_other_kinds_of_file_are_left_alone_and_said(photos):
    (photos / "cat" / ".hidden.png").write_bytes(b"")
    (photos / ".git").mkdir()
    (photos / "__MACOSX").mkdir()
    (photos / "dog" / "a.HEIC").write_bytes(b"")
    (photos / "dog" / "Thumbs.db").write_bytes(b"")
    task = load(photos)
    assert task.class_names == ("bird", "cat", "dog")
    assert task.describe()[1:] == ["folder: files that are not images are ignored (1 .db, 1 .heic)"]


# -- what an image becomes ----------------------------------------------------------------------------------------


def test_an_image_of_the_networks_size_keeps_its_pixels_and_a_larger_one_the_square_in_its_centre():
    exact = picture(1, S, S)
    np.testing.assert_array_equal(fit(exact, S), np.moveaxis(np.asarray(exact), 2, 0))
    wide = picture(2, S + 5, S)
    np.testing.assert_array_equal(fit(wide, S), np.moveaxis(np.asarray(wide)[:, 2 : 2 + S], 2, 0))
    tall = Image.fromarray(np.kron(np.asarray(picture(3, S, S)), np.ones((3, 3, 1), np.uint8)))
    resized = np.asarray(tall.resize((S, S), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fit(tall, S), np.moveaxis(resized, 2, 0))


def test_grey_is_repeated_palettes_become_colours_transparency_white_and_sixteen_bits_eight(tmp_path):
    grey = picture(4, S, S, channels=1)
    np.testing.assert_array_equal(fit(grey, S), np.repeat(np.asarray(grey)[None], 3, axis=0))
    few = Image.new("RGB", (S, S), (200, 100, 50))
    for image in (few.quantize(4), few.convert("RGBA"), few.convert("CMYK")):
        assert fit(image, S)[:, 3, 3].tolist() == [200, 100, 50], image.mode
    clear = Image.new("RGBA", (S, S), (200, 100, 50, 0))
    assert (fit(clear, S) == 255).all()
    palette = Image.new("P", (S, S), 0)
    palette.putpalette([200, 100, 50])
    palette.info["transparency"] = 0
    assert (fit(palette, S) == 255).all()
    deep = np.random.default_rng(5).integers(0, 2**16, (S, S)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(fit_file(tmp_path / "deep.png", S)[1], deep >> 8)


def test_the_orientation_that_a_camera_noted_is_applied(tmp_path):
    upright = picture(6, S, S)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees clockwise when shown
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(fit_file(tmp_path / "turned.png", S), fit(upright, S))
    deep = Image.fromarray(np.random.default_rng(8).integers(0, 2**16, (S, S)).astype(np.uint16))
    deep.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "deep.png", exif=exif)
    np.testing.assert_array_equal(fit_file(tmp_path / "deep.png", S), fit(deep, S))


def test_digits_become_what_the_readers_of_mnist_make_of_them(tmp_path):
    sample = load_task("mnist", sample=True, progress=False)
    inner = Image.fromarray(np.asarray(sample.test.images[3, 0, 2:30, 2:30]))
    for how in ("digits", "mixed"):
        np.testing.assert_array_equal(fit(inner, 32, how), sample.test.images[3])
    assert (sample.fit, load_task("multitask", sample=True, progress=False).fit) == ("digits", "mixed")


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (1, 1), (28, 28)])
def test_every_kind_and_shape_of_image_becomes_a_square_of_three_channels(how, mode, shape):
    image = Image.new("I;16", shape) if mode == "I;16" else Image.new("RGB", shape, (200, 100, 50)).convert(mode)
    made = fit(image, 32, how)
    assert (made.shape, made.dtype, made.flags.c_contiguous) == ((3, 32, 32), np.uint8, True)


# -- what is refused ----------------------------------------------------------------------------------------------


def one_class(folder):
    put(folder, {"cat": 3})


def loose(folder):
    folder.mkdir()
    picture(1).save(folder / "a.png")


def nothing(folder):
    folder.mkdir()


def an_empty_class(folder):
    put(folder, {"cat": 3, "dog": 0})


def a_single_image(folder):
    put(folder, {"cat": 3, "dog": 1})


def a_damaged_image(folder):
    put(folder, {"cat": 3, "dog": 2})
    content = (folder / "dog" / "01.png").read_bytes()
    (folder / "dog" / "01.png").write_bytes(content[: len(content) // 2])


def no_image(folder):
    put(folder, {"cat": 3, "dog": 2})
    (folder / "dog" / "01.png").write_text("a letter")


def an_unknown_test_class(folder):
    put(folder / "train", {"cat": 3, "dog": 1})
    put(folder / "test", {"cat": 3, "fox": 1})


def train_beside_others(folder):
    put(folder / "train", {"cat": 3, "dog": 1})
    put(folder / "more", {"cat": 3, "dog": 1})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "d: no such folder; give --data-dir DIR with a folder for each class in it"),
        (
            lambda folder: folder.write_text(""),
            "d: is a file, not a folder; give --data-dir DIR with a folder for each",
        ),
        (nothing, "d: no folder with images in it; put the images of each class in a folder of its own"),
        (loose, "d: its images lie in no folder; put the images of each class in a folder of its own, such as .*d/cat"),
        (one_class, "d: there is only one class, cat, and a network needs two or more; put the images of each class"),
        (an_empty_class, r"d/dog: no image in it \(a file that ends in .bmp .*\); put some there, or remove it"),
        (
            a_single_image,
            "d: the class dog has 1 image, and a split needs two at least, .*; add some, or leave the class",
        ),
        (a_damaged_image, "d/dog/01.png: it cannot be decoded: .*; mend or remove the file, or give --corrupt skip"),
        (no_image, "d/dog/01.png: it cannot be decoded: no image of the formats .*; mend or remove the file"),
        (an_unknown_test_class, "d/test: the class fox is not one of these: cat, dog; remove or rename that folder"),
        (
            train_beside_others,
            "d: train has folders in it, and beside it are more, .*; give --data-dir .*d/train to draw",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_gets_one_line_with_the_cure(tmp_path, make, message):
    make(tmp_path / "d")
    with pytest.raises(DataError, match=message) as found:
        load(tmp_path / "d")
    assert "\n" not in str(found.value)


def test_without_a_data_dir_the_cure_is_named():
    for sample in (False, True):
        with pytest.raises(DataError, match=r"folder: .*; give --data-dir DIR with a folder of images for each class"):
            load_task("folder", sample=sample)


def test_unreadable_images_can_be_skipped_and_are_named_each_time(tmp_path):
    a_damaged_image(tmp_path / "d")
    put(tmp_path / "d", {"dog": 4}, start=70)
    (tmp_path / "d" / "cat" / "02.png").write_text("a letter")
    for _ in range(2):  # decoded, and from the cache
        task = load(tmp_path / "d", corrupt="skip")
        assert len(task.train) + len(task.test) == 6
        skipped = [line for line in task.describe() if line.startswith("skipped: ")]
        assert len(skipped) == 1
        assert "cat/02.png: it cannot be decoded" in skipped[0]
    with pytest.raises(DataError, match=r"cat/02.png"):
        load(tmp_path / "d")


# -- what is kept -------------------------------------------------------------------------------------------------


def test_hash_and_statistics_are_those_of_the_whole_data_and_come_with_the_cache(photos, monkeypatch):
    first = load(photos)
    monkeypatch.setattr(class_folder, "fit_file", None)  # nothing is decoded again
    for task in (first, load(photos)):
        for part in (task.train, task.test):
            assert part.kept_sha256 == data_sha256(
                part.__class__(part.images, part.labels, part.source, ("folder",), 3)
            )
        got, bare = (
            channel_statistics(task.train),
            part.__class__(task.train.images, *[task.train.labels] * 2, ("f",), 3),
        )
        for mine, theirs in zip(got, channel_statistics(bare), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert isinstance(load(photos).train.images, np.memmap)


def test_a_file_that_changed_or_came_is_decoded_anew(photos):
    before = load(photos)
    picture(99).save(photos / "cat" / "00.png")
    changed = load(photos)
    put(photos, {"cat": 6})
    more = load(photos)
    sums = {hashlib.sha256(task.train.kept_sha256.encode() + task.test.kept_sha256.encode()).digest()
            for task in (before, changed, more)}  # fmt: skip
    assert len(sums) == 3


def test_without_a_cache_the_images_stay_in_memory_and_it_is_said(photos, monkeypatch):
    whole = load(photos)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "store", full)
    monkeypatch.setattr(cache, "load", lambda *args: None)
    task = load(photos)
    assert "could not be used (No space left on device)" in task.describe()[-1]
    assert task.train.kept_sha256 == whole.train.kept_sha256
    np.testing.assert_array_equal(task.train.images, whole.train.images)


def test_all_images_of_a_folder_are_labelled_by_the_classes_of_another(photos, tmp_path):
    put(tmp_path / "more", {"dog": 2, "bird": 1}, start=500)
    task = load_all(tmp_path / "more", ("bird", "cat", "dog"), S)
    assert (len(task.train), task.test.labels.tolist()) == (0, [0, 2, 2])
    assert task.facts["test_images_by_class"] == {"bird": 1, "cat": 0, "dog": 2}
    with pytest.raises(DataError, match=r"the class dog is not one of these: bird, cat; remove or rename that folder"):
        load_all(tmp_path / "more", ("bird", "cat"), S)


def test_a_turned_tiff_is_turned_once(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[0x112] = 6  # to be shown turned to the right by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.tiff", exif=exif)
    Image.fromarray(np.rot90(pixels, -1)).save(tmp_path / "upright.png")
    turned, upright = (fit_file(tmp_path / name, 8) for name in ("turned.tiff", "upright.png"))
    np.testing.assert_array_equal(turned, upright)


def test_a_broken_link_is_named_and_skipped(photos, capsys):
    link = photos / "cat" / "gone.png"
    link.symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png: a broken link, to nowhere\.png; mend or remove the file, or give"):
        load(photos)
    for _ in range(2):  # decoded, and from the cache
        task = load(photos, corrupt="skip")
        assert any("gone.png: a broken link, to nowhere.png" in line for line in task.describe())


def test_a_link_that_leads_to_itself_or_to_its_own_folder_is_named_and_skipped(photos):
    (photos / "cat" / "loop.png").symlink_to("loop.png")
    with pytest.raises(DataError, match=r"loop\.png: a broken link, to loop\.png; mend or remove the file, or give"):
        load(photos)
    (photos / "cat" / "again").symlink_to("again")
    (photos / "cat" / "up").symlink_to(photos / "cat")
    lines = "\n".join(load(photos, corrupt="skip").describe())
    for what in ("loop.png: a broken link", "again: a broken link, to again", "up: a link to a folder that it lies in"):
        assert what in lines
    assert load(photos, corrupt="skip").train.images.shape[0] < 40


def test_a_folder_beside_the_test_set_that_might_be_one_is_said_to_be_unused(photos, tmp_path):
    for part in ("train", "val", "test"):
        shutil.copytree(photos, tmp_path / "parts" / part)
    lines = load(tmp_path / "parts").describe()
    assert "folder: val is not used: the test set is the folder test" in lines


def test_folders_of_a_split_in_capitals_are_no_classes(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "d" / "Train")
    shutil.copytree(photos, tmp_path / "d" / "Test")
    with pytest.raises(DataError, match="the folder Test would be taken for a class; name it test, in small letters"):
        load(tmp_path / "d")


def test_a_class_that_is_a_broken_link_or_lies_beside_the_split_is_refused(photos, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(photos, tmp_path / "d" / part)
    shutil.copytree(photos / "cat", tmp_path / "d" / "fox")
    with pytest.raises(DataError, match="the images in fox, beside train and test, are not taken; move it into"):
        load(tmp_path / "d")
    (photos / "emu").symlink_to("nowhere")
    with pytest.raises(DataError, match="emu: a broken link, to nowhere, where a class may be meant; mend it or"):
        load(photos)


def test_a_test_folder_that_lacks_a_class_is_said(photos, tmp_path, capsys):
    for part in ("train", "test"):
        shutil.copytree(photos, tmp_path / "d" / part)
    shutil.rmtree(tmp_path / "d" / "test" / "cat")
    load(tmp_path / "d")
    assert "test: no folder of the class cat, so no image of it is tested" in capsys.readouterr().err
