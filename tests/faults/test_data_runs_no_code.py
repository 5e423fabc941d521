"""Promise 4: loading a data set runs no code and takes bounded memory, also where it is a pickle."""

import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data import DataError, load_task
from minidl.data.cifar import parse_cifar_pickle
from minidl.data.plain_pickle import MAX_STEPS, parse_pickle

HERE = Path("batch")
RNG = np.random.default_rng(5)
LABELS = [6, 9, 0, 3]
IMAGES = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)


def python_2(images, **lists):
    """A batch as Python 2 wrote the publisher's: byte strings for all text, the array's values as one of them."""

    def string(text):
        return b"U" + bytes([len(text)]) + text

    def numbers(values):
        return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"

    n, width = images.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"M" + struct.pack("<H", n) + b"M" + struct.pack("<H", width) + b"\x86"
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + struct.pack("<I", images.size) + images.tobytes() + b"tb"
    )  # fmt: skip
    items = string(b"batch_label") + string(b"training batch 1 of 5") + string(b"data") + array
    for name, values in lists.items():
        items += string(name.encode()) + numbers(values)
    return b"\x80\x02}q\x01(" + items + b"u."


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


COLLIDING = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 20_000))
SHAPE = b"M\x04\x00M\x00\x0c\x86"
ATTACKS = {
    "a string of 4 GB": b"\x80\x02T\xff\xff\xff\xff.",
    "bytes of 2^64": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "text of 4 GB": b"\x80\x02X\xff\xff\xff\xff.",
    "a memo of 4 billion places, then too many steps": b"\x80\x02" + b"]r\xff\xff\xff\xff" * MAX_STEPS,
    "a dictionary an instruction": b"\x80\x02" + b"}" * (MAX_STEPS + 1),
    "a memo entry each": b"\x80\x02" + b"".join(b"}r" + struct.pack("<I", n) for n in range(MAX_STEPS // 2 + 1)),
    "keys whose hashes are all the same": b"\x80\x02}(" + COLLIDING + b"u.",
    "one string encoded again and again": (
        b"\x80\x02c_codecs\nencode\nq\x00X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01"
        + b"X\x06\x00\x00\x00latin1q\x02" + b"h\x00h\x01h\x02\x86R" * 4000
    ),
    "letters of four bytes": b"\x80\x02X" + struct.pack("<I", 4) + "🙂".encode() + b".",
    "bad text": b"\x80\x02X\x01\x00\x00\x00\xc3.",
    "an array of objects": pickle.dumps(np.array([{}, []], object), protocol=2),
    "an array of floats": pickle.dumps({"data": np.zeros(3)}, protocol=2),
    "a shape of 2^32 in each direction": python_2(IMAGES).replace(SHAPE, b"K\x00J\xff\xff\xff\x7f\x86"),
    "a negative shape": python_2(IMAGES).replace(SHAPE, b"J\xfc\xff\xff\xffJ\x00\xf4\xff\xff\x86"),
    "a list in itself that a tuple follows": b"\x80\x02]q\x00h\x00a\x85.x",
    "a call of a value": b"\x80\x02K\x01)R.",
    "an unfinished array": b"\x80\x02cnumpy\nndarray\n)R.",
    "build of a list": b"\x80\x02]N\x85b.",
    "an instance": b"\x80\x02(ios\nsystem\n.",
    "a new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent object": b"\x80\x02Pname\n.",
    "no end": b"\x80\x02}",
    "an end without a value": b"\x80\x02.",
    "two values": b"\x80\x02NN.",
    "a mark left": b"\x80\x02(.",
    "a long name": b"\x80\x02c" + b"a" * 5000 + b"\nb\n.",
    "an odd dictionary": b"\x80\x02}(U\x01au.",
    "a key that is a list": b"\x80\x02}]Ns.",
    "a newer protocol": b"\x80\x09N.",
}  # fmt: skip


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
