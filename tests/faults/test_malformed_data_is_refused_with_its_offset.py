"""Promise 13: a malformed data file gives an error that names the file, the offset and what was expected."""

import gzip
import io
import lzma
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_files import PACK, cifar_content, colour, idx_content, is_one_line, mat_content, or_data_error
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minidl.data import DataError, compressed, image_open
from minidl.data.cifar import parse_cifar
from minidl.data.compressed import unpack
from minidl.data.fit import fit_file
from minidl.data.idx import parse_idx, read_idx
from minidl.data.image_open import FORMATS
from minidl.data.svhn import MAX_VARIABLES, parse_svhn

HERE = Path("damaged")


@given(dims=st.permutations([0, 2**32 - 1, 2**32 - 1, 2**32 - 1]))
@settings(max_examples=8)
def test_an_idx_shape_of_nothing_in_a_huge_space_is_refused(dims):
    with pytest.raises(DataError) as error:
        parse_idx(struct.pack(">HBB4I", 0, 8, 4, *dims), HERE)
    assert is_one_line(error, "damaged: byte 4", "a shape that memory can hold")


def matrix(name, shape, values):
    parts = ((6, struct.pack("<2I", 9, 0)), (5, struct.pack(f"<{len(shape)}i", *shape)), (1, name), (2, values))
    body = b"".join(struct.pack("<2I", kind, len(p)) + p + bytes(-len(p) % 8) for kind, p in parts)
    return struct.pack("<2I", 14, len(body)) + body


HEAD = bytes(124) + b"\x00\x01IM"


def test_an_svhn_shape_of_nothing_in_a_huge_space_is_refused():
    with pytest.raises(DataError) as error:
        parse_svhn(HEAD + matrix(b"X", (2**31 - 1, 2**31 - 1, 2**31 - 1, 0), b""), HERE)
    assert is_one_line(error, "damaged: byte ", "dimensions of 0 values in X")


def test_another_variable_may_have_any_number_of_dimensions_x_may_not():
    images, labels = colour(np.random.default_rng(0), 3), np.array([1, 0, 5])
    content = mat_content(images, labels)
    got, _ = parse_svhn(content + matrix(b"more", (1, 1, 1, 1, 2), b"ab"), HERE)
    np.testing.assert_array_equal(got, images)
    with pytest.raises(DataError, match="2 to 4 dimensions of X"):
        parse_svhn(HEAD + matrix(b"X", (1, 1, 1, 1, 2), b"ab"), HERE)


def test_a_file_of_endless_small_variables_is_refused_early():
    one = matrix(b"z", (1, 1), b"a")
    with pytest.raises(DataError, match=f"at most {MAX_VARIABLES} variables"):
        parse_svhn(HEAD + one * (MAX_VARIABLES + 1), HERE)


def test_too_little_memory_is_not_called_damage(tmp_path, monkeypatch):
    def full(raw):
        raise MemoryError

    (tmp_path / "a").write_bytes(b"content")
    monkeypatch.setattr(compressed, "_content", full)
    with pytest.raises(DataError) as error:
        compressed.unpack(tmp_path / "a")
    assert is_one_line(error, "not enough memory")
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
@pytest.mark.parametrize("size", [1, 1000, 3 << 20])
def test_members_in_a_row_and_zeros_behind_them_are_read_as_the_libraries_read_them(tmp_path, pack, size):
    import random

    content = random.Random(size).randbytes(size)
    one, two = content[: size // 2], content[size // 2 :]
    (tmp_path / "a").write_bytes(pack(one) + pack(two) + bytes(512))
    assert bytes(compressed.unpack(tmp_path / "a")) == content


RNG = np.random.default_rng(3)


GREY = RNG.integers(0, 256, (4, 3, 5), dtype=np.uint8)


IMAGES, LABELS = colour(RNG, 5), np.array([7, 0, 9, 3, 0])


PARSERS = {
    "idx": (idx_content(GREY), lambda content: parse_idx(content, HERE)),
    "cifar-10": (cifar_content(IMAGES, LABELS), lambda content: parse_cifar(content, HERE, (10,))),
    "cifar-100": (cifar_content(IMAGES, LABELS, 11 * LABELS), lambda content: parse_cifar(content, HERE, (20, 100))),
    "svhn": (mat_content(IMAGES, LABELS), lambda content: parse_svhn(content, HERE)),
    "svhn compressed": (mat_content(IMAGES, LABELS, compressed=True), lambda content: parse_svhn(content, HERE)),
}


each_format = pytest.mark.parametrize("form", PARSERS)


@each_format
@given(data=st.data())
@settings(max_examples=50)
def test_a_file_cut_short_is_refused(form, data):
    content, parse = PARSERS[form]
    end = data.draw(st.integers(0, len(content) - 1))
    if form.startswith("cifar"):
        record = 3072 + 1 + (form == "cifar-100")
        end -= end % record == 0  # whole records are a smaller file, not a damaged one
        end = max(end, 1)
    with pytest.raises(DataError) as error:
        parse(content[:end])
    assert is_one_line(error, "damaged: byte ", "expected", "get it again")


@each_format
@given(data=st.data())
@settings(max_examples=50)
def test_flipped_bits_give_arrays_of_the_right_kind_or_a_data_error(form, data):
    content, parse = PARSERS[form]
    broken = bytearray(content)
    # most of a file is pixels; aim at the structure around them as well
    places = st.integers(0, len(content) - 1) | st.integers(0, min(400, len(content) - 1))
    for at in data.draw(st.lists(places | places.map(lambda at: -1 - at), min_size=1, max_size=4)):
        broken[at] ^= data.draw(st.integers(1, 255))
    got = or_data_error(lambda: parse(bytes(broken)))
    if got is not None:
        arrays = got if isinstance(got, tuple) else (got,)
        assert all(array.dtype == np.uint8 for array in arrays)
        assert len({len(array) for array in arrays}) == 1


@each_format
@given(tail=st.binary(max_size=600), start=st.integers(0, 300))
@settings(max_examples=50)
def test_random_bytes_after_a_true_start_give_a_data_error_or_arrays(form, tail, start):
    content, parse = PARSERS[form]
    or_data_error(lambda: parse(content[:start] + tail))


@each_format
def test_bytes_after_the_end_are_refused(form):
    content, parse = PARSERS[form]
    with pytest.raises(DataError) as error:
        parse(content + b"\x01\x02\x03")
    assert is_one_line(error, "expected")


@pytest.mark.parametrize("size", [2**31 - 1, 2**32 - 1, 2**16])
@pytest.mark.parametrize("at", [132, 140, 156, 172, 188])  # sizes and dimensions of the first matrix
def test_huge_mat_sizes_are_refused(at, size):
    content = bytearray(mat_content(IMAGES, LABELS))
    struct.pack_into("<I", content, at, size)
    with pytest.raises(DataError) as error:
        parse_svhn(content, HERE)
    assert is_one_line(error, "damaged: byte ")


def changed(content, at, value):
    content = bytearray(content)
    content[at : at + len(value)] = value
    return bytes(content)


def without_y():
    return changed(mat_content(IMAGES, LABELS), len(mat_content(IMAGES, LABELS)) - 24, b"\1\0\1\0z")


WRONG = {
    "idx magic": (lambda: parse_idx(changed(idx_content(GREY), 0, b"\1"), HERE), "byte 0", "magic 00 00 08", "01 00"),
    "idx of int32": (lambda: parse_idx(changed(idx_content(GREY), 2, b"\x0c"), HERE), "byte 0", "00 00 08", "00 00 0c"),
    "idx of 9 dimensions": (lambda: parse_idx(changed(idx_content(GREY), 3, b"\x09"), HERE), "1 to 4 dimensions"),
    "cifar label": (
        lambda: parse_cifar(changed(cifar_content(IMAGES, LABELS), 3073, b"\x0a"), HERE, (10,)),
        "byte 3073", "a label of 0 to 9 in record 1", "got 10",
    ),
    "cifar-100 fine label": (
        lambda: parse_cifar(changed(cifar_content(IMAGES, LABELS, LABELS), 2 * 3074 + 1, b"\x64"), HERE, (20, 100)),
        "byte 6149", "a label of 0 to 99 in record 2", "got 100",
    ),
    "cifar-100 read as cifar-10": (
        lambda: parse_cifar(cifar_content(IMAGES, LABELS, LABELS), HERE, (10,)), "records of 3073 bytes",
    ),
    "mat of MATLAB 7.3": (lambda: parse_svhn(changed(mat_content(IMAGES, LABELS), 124, b"\0\2IM"), HERE), "byte 124"),
    "mat without y": (lambda: parse_svhn(without_y(), HERE), "a variable y", "['X']"),
    "mat with y twice": (
        lambda: parse_svhn(mat_content(IMAGES, LABELS) + mat_content(IMAGES, LABELS)[128:], HERE),
        "one variable X", "two",
    ),
    "mat label 11": (
        lambda: parse_svhn(mat_content(IMAGES, [1, 2, 11, 3, 4]), HERE), "a label of 1 to 10 in y[2]", "got 11",
    ),
    "mat label count": (lambda: parse_svhn(mat_content(IMAGES, LABELS[:4]), HERE), "y of shape (N, 1)", "(4, 1)"),
    "mat image size": (lambda: parse_svhn(mat_content(IMAGES[:, :, :30], LABELS), HERE), "X of shape (32, 32, 3, N)"),
    "mat of complex numbers": (
        lambda: parse_svhn(changed(mat_content(IMAGES, LABELS), 145, b"\x08"), HERE), "real uint8 values", "in X",
    ),
    "mat of floats": (lambda: parse_svhn(mat_content(IMAGES / 2, LABELS), HERE), "real uint8 values", "in X"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_offset_and_what_was_expected(case):
    parse, *parts = WRONG[case]
    with pytest.raises(DataError) as error:
        parse()
    assert is_one_line(error, "damaged: byte ", "expected", "get it again", *parts)


@pytest.mark.parametrize("packing", [".gz", ".xz"])
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30)
def test_a_packed_file_cut_short_is_refused(tmp_path_factory, packing, share):
    content = PACK[packing](idx_content(GREY))
    path = tmp_path_factory.mktemp("cut") / "a"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert is_one_line(error, str(path), "get it again")


@pytest.mark.parametrize("packing", [".gz", ".xz"])
@given(data=st.data())
@settings(max_examples=50)
def test_a_packed_file_with_a_flipped_byte_reads_the_same_or_not_at_all(tmp_path_factory, packing, data):
    content = bytearray(PACK[packing](idx_content(GREY)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flip") / "a"
    path.write_bytes(content)
    got = or_data_error(lambda: read_idx(path))
    if got is not None:
        np.testing.assert_array_equal(got, GREY)


def test_a_missing_file_a_folder_and_an_empty_file_are_refused_in_one_line(tmp_path):
    (tmp_path / "empty").touch()
    cases = ((tmp_path / "none", "No such file"), (tmp_path, "cannot be read"), (tmp_path / "empty", "empty"))
    for path, part in cases:
        with pytest.raises(DataError) as error:
            unpack(path)
        assert is_one_line(error, str(path), part)


def image_content(form):
    file = io.BytesIO()
    mode = {"GIF": "P", "PPM": "RGB"}.get(form, "RGB")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)).convert(mode).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
@settings(max_examples=40)
def test_a_damaged_image_is_read_or_refused_in_one_line(tmp_path_factory, form, data):
    content = bytearray(image_content(form))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("image") / "a.png"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; commands leave it out
        patch.setattr(image_open, "MAX_PIXELS", 10**5)  # what claims to be larger takes seconds up to the real bound
        why = ""
        try:
            got = fit_file(path, 8)
        except ValueError as error:
            why = str(error)
    if why:
        assert why.startswith(image_open.UNREADABLE)
        assert "\n" not in why
    else:
        assert (got.shape, got.dtype) == ((3, 8, 8), np.uint8)
