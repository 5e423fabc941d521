"""Promise 4: reading data or a checkpoint runs no code and takes bounded memory, pickles and images too."""

import csv
import gzip
import io
import lzma
import os
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import PACK, is_one_line, mat_content, write
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_attacks import ATTACKS, IMAGES, LABELS, python_2
from PIL import Image, ImageFile

from minidl.data import DataError, compressed, load_task, svhn
from minidl.data.cifar import parse_cifar_pickle
from minidl.data.compressed import unpack
from minidl.data.fit import fit, fit_file
from minidl.data.idx import parse_idx
from minidl.data.image_decode import Corrupt, decode
from minidl.data.plain_pickle import parse_pickle
from minidl.data.svhn import parse_svhn
from minidl.evaluate.confusion import Confusion
from minidl.reproduce.csv_output import to_csv
from minidl.train import checkpoint
from minidl.train.checkpoint import CheckpointError

HERE = Path("batch")


def in_bounded_memory(content, most=64 << 20):
    """Parse what must be refused in one line, without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            parse_pickle(content, HERE)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("batch: byte ")
    assert len(text) < 400
    return text


def test_a_python_2_batch_is_read_as_pickle_itself_reads_it():
    content = python_2(IMAGES, labels=LABELS)
    assert pickle.loads(content, encoding="latin1")["labels"] == LABELS  # the writer above is right
    images, labels = parse_cifar_pickle(content, HERE, (10,))
    np.testing.assert_array_equal(images, IMAGES.reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(labels[:, 0], LABELS)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", [bytes, str])
def test_a_batch_that_python_3_wrote_is_read_as_well(protocol, kind):
    def key(name):
        return name.encode() if kind is bytes else name

    batch = {key("data"): IMAGES, key("coarse_labels"): LABELS, key("fine_labels"): [7 * n for n in LABELS]}
    content = pickle.dumps(batch | {key("filenames"): ["a.png", "é.png"]}, protocol=protocol)
    images, labels = parse_cifar_pickle(content, HERE, (20, 100))
    np.testing.assert_array_equal(images, IMAGES.reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(labels, np.array([LABELS, [7 * n for n in LABELS]]).T)


def test_an_array_in_fortran_order_keeps_its_values():
    content = pickle.dumps({"data": np.asfortranarray(IMAGES), "labels": LABELS}, protocol=2)
    np.testing.assert_array_equal(parse_cifar_pickle(content, HERE, (10,))[0], IMAGES.reshape(-1, 3, 32, 32))


class Calls:
    """A pickle of one calls a function when it is read by pickle."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


FIRES = {
    "os.system": lambda mark: Calls(os.system, f"touch {mark}"),
    "eval": lambda mark: Calls(eval, f"open({mark!r}, 'w')"),
    "getattr": lambda mark: Calls(getattr, np.ndarray, "tofile"),
    "open": lambda mark: Calls(open, mark, "w"),
    "mkdir": lambda mark: Calls(os.mkdir, mark),
    "numpy's own loader": lambda mark: Calls(np.save, mark, np.zeros(1)),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", FIRES)
def test_a_call_in_a_pickle_is_refused_by_its_name_and_not_made(tmp_path, name, protocol):
    mark = tmp_path / "ran"
    content = pickle.dumps({"data": FIRES[name](str(mark)), "labels": LABELS}, protocol=protocol)
    assert "nothing but plain data" in in_bounded_memory(content)
    assert list(tmp_path.iterdir()) == []


def test_a_task_of_a_folder_with_such_a_pickle_is_refused_and_nothing_ran(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch"):
        (folder / name).write_bytes(pickle.dumps({"data": Calls(os.mkdir, str(tmp_path / "ran"))}, protocol=2))
    with pytest.raises(DataError, match="nothing but plain data"):
        load_task("cifar10", data_dir=tmp_path, cache_dir=tmp_path / "cache", progress=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_in_one_line_and_bounded_memory(name):
    in_bounded_memory(ATTACKS[name])


BATCHES = {
    "no dictionary": ([1, 2], "a pickled dictionary"),
    "no data": ({"labels": LABELS}, "an array 'data'"),
    "data of another width": ({"data": IMAGES[:, :3000], "labels": LABELS}, "(M, 3072)"),
    "no labels": ({"data": IMAGES}, "a list 'labels' of 4"),
    "too few labels": ({"data": IMAGES, "labels": LABELS[:3]}, "a list 'labels' of 4"),
    "a label of 10": ({"data": IMAGES, "labels": [1, 2, 10, 3]}, "a label of 0 to 9 in labels[2]"),
    "a huge label": ({"data": IMAGES, "labels": [1, 2, 3, 1 << 2000]}, "labels[3]"),
    "a label of text": ({"data": IMAGES, "labels": [1, 2, "3", 3]}, "labels[2]"),
    "true for a label": ({"data": IMAGES, "labels": [1, 2, True, 3]}, "labels[2]"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_plain_data_that_is_no_batch_is_refused(name):
    batch, part = BATCHES[name]
    with pytest.raises(DataError) as error:
        parse_cifar_pickle(pickle.dumps(batch, protocol=2), HERE, (10,))
    assert part in str(error.value)
    assert "\n" not in str(error.value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.text(st.characters(max_codepoint=255)),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=255)), inner) | st.tuples(inner)
    ),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.sampled_from([2, 3, 4]))
@settings(max_examples=100)
def test_plain_data_comes_back_as_pickle_gives_it(value, protocol):
    content = pickle.dumps(value, protocol=protocol)
    assert parse_pickle(content, HERE) == pickle.loads(content)


def test_a_header_of_absurd_length_costs_no_memory(tmp_path):
    path = tmp_path / "step-000000001.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="is damaged: it is no whole checkpoint"):
        checkpoint.load(path)


def unpacked(tmp_path, content, name="a"):
    (tmp_path / name).write_bytes(content)
    return bytes(compressed.unpack(tmp_path / name))


BOMBS = {
    "gzip of zeros": lambda: gzip.compress(bytes(40 << 20)),
    "xz of zeros": lambda: lzma.compress(bytes(40 << 20)),
    "empty gzip members": lambda: gzip.compress(b"") * 100_000,
    "empty xz streams": lambda: lzma.compress(b"") * 10_000,
    "an xz dictionary of a gigabyte": lambda: lzma.compress(
        b"x" * 100, format=lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    ),
    "a gzip member cut short": lambda: gzip.compress(bytes(1000))[:-4],
    "an xz stream cut short": lambda: lzma.compress(bytes(1000))[:-4],
    "text after a gzip member": lambda: gzip.compress(b"abc") + b"text",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_packed_bomb_is_refused_early_and_in_little_memory(tmp_path, name):
    content = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            unpacked(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < (64 << 20) + len(content)
    finally:
        tracemalloc.stop()
    assert is_one_line(error, "get it again")


def test_bombs_are_given_up_after_a_number_of_members(tmp_path, monkeypatch):
    made = []
    real = zlib.decompressobj
    monkeypatch.setattr(compressed.zlib, "decompressobj", lambda **options: made.append(1) or real(**options))
    with pytest.raises(DataError, match="more than 100 members"):
        unpacked(tmp_path, gzip.compress(b"") * 5000)
    assert len(made) == compressed.MAX_MEMBERS


def read_by_fit(path):
    with pytest.raises(ValueError, match="cannot be decoded") as error:
        fit_file(path, 32)
    return str(error.value)


def read_by_decode(path):
    found = decode(str(path), 32, None)
    assert isinstance(found, Corrupt)
    return str(found)


@pytest.mark.parametrize("read", [read_by_fit, read_by_decode])
@pytest.mark.parametrize(("width", "height"), [(10_000, 8_001), (10_000, 10_000), (30_000, 30_000)])
def test_an_image_of_more_than_80_million_pixels_is_not_unpacked(tmp_path, monkeypatch, read, width, height):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was unpacked"))
    path = tmp_path / "bomb.png"
    # a header that claims so many pixels, and next to no content: Pillow itself warns of 90 million, and refuses 179
    head = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    chunks = [struct.pack(">I", len(part)) + name + part for name, part in parts]
    chunks = [chunk + struct.pack(">I", zlib.crc32(chunk[4:])) for chunk in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    found = read(path)
    assert "pixels are more than 80000000" in found
    assert "\n" not in found


def test_a_bomb_among_images_is_refused_in_one_line_by_training_and_prediction(tmp_path, capsys, monkeypatch):
    from minidl.predict.__main__ import main as predict
    from minidl.train.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (40, 40), 50 * i + len(name) * (name == "cat")).save(tmp_path / "d" / name / f"{i}.png")
    args = ["lenet", "folder", "--data-dir", "d", "--batch-size", "2", "--updates", "1", "--quiet", "--out"]
    assert main([*args, "R"]) == 0
    Image.new("1", (10_000, 10_000)).save(tmp_path / "d" / "cat" / "bomb.png")
    capsys.readouterr()
    assert main([*args, "R2"]) == 4
    assert predict(["R", "d/cat/bomb.png"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == err.count("bomb.png: it cannot be decoded: 10000 × 10000 pixels are more than") == 2


def test_an_image_that_is_already_open_is_held_to_the_same_bound():
    with pytest.raises(ValueError, match="9000 × 9000 pixels are more than 80000000"):
        fit(Image.new("1", (9000, 9000)), 32)


@pytest.mark.parametrize("read", [read_by_fit, read_by_decode])
def test_an_image_that_is_a_program_is_not_run(tmp_path, monkeypatch, read):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: pytest.fail("it was run"))
    path = tmp_path / "program.png"
    Image.new("RGB", (20, 20)).save(path, "EPS")
    assert "no image of the formats BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP" in read(path)


@given(dims=st.lists(st.integers(2**31 - 1, 2**32 - 1), min_size=1, max_size=4))
@settings(max_examples=20)
def test_huge_idx_dimensions_cost_no_memory(dims):
    content = struct.pack(f">HBB{len(dims)}I", 0, 8, len(dims), *dims) + bytes(100)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="values for the shape"):
            parse_idx(content, HERE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", PACK)
def test_a_file_that_unpacks_to_too_much_is_refused_in_bounded_memory(tmp_path, packing):
    path = write(tmp_path / "bomb", bytes(64 << 20), packing)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            unpack(path, max_bytes=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert is_one_line(error, "at most 1048576 bytes")


def test_a_zlib_stream_in_a_mat_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(svhn, "MAX_BYTES", 1 << 20)
    bomb = zlib.compress(bytes(64 << 20))
    content = mat_content(IMAGES.reshape(-1, 3, 32, 32), LABELS)[:128] + struct.pack("<2I", 15, len(bomb)) + bomb
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            parse_svhn(content, HERE)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert is_one_line(error, "byte 128", "at most 1048576 bytes")


# -- a table that a spreadsheet opens --------------------------------------------------------------------------------

FORMULAS = {  # a class, and how a table has it
    **{name: f"'{name}" for name in ("=cmd|' /C calc'!A0", "+SUM(A1)", "-2+3", "@SUM(1)", "\t=1", "\uff1d1", "-inf")},
    **{f"ant{end}=1+1": f"ant{shown}=1+1" for end, shown in (("\r", "\\x0d"), ("\n", "\\n"), ("\r\n", "\\x0d\\n"))},
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_name_of_a_class_is_no_formula_in_a_table(name):
    names = ["-1.5", "a=b", name]
    confusion = Confusion(names)
    confusion.add(np.eye(3), [0, 2, 2])
    shown = ["-1.5", "a=b", FORMULAS[name]]
    header, *rows = csv.reader(io.StringIO(confusion.csv(), newline=""))
    assert header[1:] == [row[0] for row in rows] == shown
    header, *rows = csv.reader(io.StringIO(confusion.classes_csv(), newline=""))
    assert [row[0] for row in rows] == shown
    assert (rows[2][4], rows[0][4]) == ("a=b", "")
    row = next(csv.DictReader(io.StringIO(to_csv([{"n": -1.5, "folder": name, name: 1}], {}), newline="")))
    assert row == {"n": "-1.5", "folder": FORMULAS[name], FORMULAS[name]: "1"}
