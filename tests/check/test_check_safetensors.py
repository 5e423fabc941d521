"""The reader and writer of vector files."""

import json
import struct

import numpy as np
import pytest

from minidl.check.safetensors import VectorError, dumps, loads, read

TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.float64(2.5),
    "c": np.arange(3),
    "h": np.float16([1, 2]),
}


def damaged_header(change):
    raw = dumps(TENSORS)
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]


def test_what_is_written_is_read_back():
    tensors, metadata = loads(dumps(TENSORS, {"k": "v"}))
    assert metadata == {"k": "v"}
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], value, strict=name != "b")


def test_the_safetensors_package_reads_what_we_write_and_we_read_what_it_writes():
    package = pytest.importorskip("safetensors.numpy")
    arrays = {name: np.ascontiguousarray(value) for name, value in TENSORS.items()}
    for name, value in package.load(dumps(arrays)).items():
        np.testing.assert_array_equal(value, arrays[name])
    for name, value in loads(package.save(arrays))[0].items():
        np.testing.assert_array_equal(value, arrays[name])


def test_equal_tensors_give_equal_bytes():
    assert dumps(TENSORS) == dumps({name: np.array(value) for name, value in TENSORS.items()})


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["a"].update(data_offsets=[0, 10**9]),
        lambda h: h["a"].update(data_offsets=[8, 4]),
        lambda h: h["a"].update(shape=[3, 5]),
        lambda h: h["a"].update(shape=[-3, -4]),
        lambda h: h["a"].update(dtype="F8"),
        lambda h: h["a"].pop("dtype"),
        lambda h: h.update(a=7),
        lambda h: h.update(__metadata__=7),
    ],
)
def test_a_header_that_lies_is_refused(change):
    with pytest.raises(VectorError, match="the header must describe its tensors"):
        loads(damaged_header(change))


@pytest.mark.parametrize("raw", [b"", b"1234567", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 3) + b"[1,"])
def test_a_cut_file_is_refused(raw):
    with pytest.raises(VectorError, match="the header"):
        loads(raw)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VectorError, match=r"none\.safetensors: cannot be read"):
        read(tmp_path / "none.safetensors")
