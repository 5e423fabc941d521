"""Promise 13: a malformed data file gives an error that names the file, the offset and what was expected."""

import gzip
import lzma
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from data_files import colour, is_one_line, mat_content

from minidl.data import DataError, compressed
from minidl.data.idx import parse_idx
from minidl.data.svhn import MAX_VARIABLES, parse_svhn

HERE = Path("malformed")


@given(dims=st.permutations([0, 2**32 - 1, 2**32 - 1, 2**32 - 1]))
@settings(max_examples=8)
def test_an_idx_shape_of_nothing_in_a_huge_space_is_refused(dims):
    with pytest.raises(DataError) as error:
        parse_idx(struct.pack(">HBB4I", 0, 8, 4, *dims), HERE)
    assert is_one_line(error, "malformed: byte 4", "a shape that memory can hold")


def matrix(name, shape, values):
    parts = ((6, struct.pack("<2I", 9, 0)), (5, struct.pack(f"<{len(shape)}i", *shape)), (1, name), (2, values))
    body = b"".join(struct.pack("<2I", kind, len(p)) + p + bytes(-len(p) % 8) for kind, p in parts)
    return struct.pack("<2I", 14, len(body)) + body


HEAD = bytes(124) + b"\x00\x01IM"


def test_an_svhn_shape_of_nothing_in_a_huge_space_is_refused():
    with pytest.raises(DataError) as error:
        parse_svhn(HEAD + matrix(b"X", (2**31 - 1, 2**31 - 1, 2**31 - 1, 0), b""), HERE)
    assert is_one_line(error, "malformed: byte ", "dimensions of 0 values in X")


def test_another_variable_may_have_any_number_of_dimensions_x_may_not():
    import numpy as np

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


def unpack(tmp_path, content, name="a"):
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
            unpack(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < (64 << 20) + len(content)
    finally:
        tracemalloc.stop()
    assert is_one_line(error, "get it again")


def test_bombs_are_given_up_after_a_number_of_members(tmp_path, monkeypatch):
    made = []
    real = zlib.decompressobj
    monkeypatch.setattr(compressed.zlib, "decompressobj", lambda **options: made.append(1) or real(**options))
    with pytest.raises(DataError, match="more than 100 members"):
        unpack(tmp_path, gzip.compress(b"") * 5000)
    assert len(made) == compressed.MAX_MEMBERS


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
@pytest.mark.parametrize("size", [1, 1000, 3 << 20])
def test_members_in_a_row_and_zeros_behind_them_are_read_as_the_libraries_read_them(tmp_path, pack, size):
    import random

    content = random.Random(size).randbytes(size)
    one, two = content[: size // 2], content[size // 2 :]
    assert unpack(tmp_path, pack(one) + pack(two) + bytes(512)) == content


def test_an_image_of_more_pixels_than_any_data_set_has_is_not_unpacked(tmp_path):
    from PIL import Image

    from minidl.data.image_decode import Corrupt, decode

    path = tmp_path / "bomb.png"
    Image.new("1", (10_000, 8_001)).save(path)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        found = decode(str(path), 32, None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert isinstance(found, Corrupt)
    assert "10000 × 8001 pixels are more than 80000000" in str(found)
