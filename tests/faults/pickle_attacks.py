"""Pickles that a reader of CIFAR must refuse, and one as Python 2 wrote it."""

import pickle
import struct

import numpy as np

from minidl.data.plain_pickle import MAX_STEPS

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
