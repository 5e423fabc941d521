"""Promise 13: a malformed data file gives an error that names the file, the offset and what was expected."""

import struct
import sys
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
