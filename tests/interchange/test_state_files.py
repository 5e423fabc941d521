"""Files of states: written and read back, PyTorch's own forms, and hostile or damaged ones, of which nothing runs."""

import io
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.interchange import StateError, read_state, write_state
from minidl.interchange.torch_file import torch_bytes
from minidl.interchange.torch_pickle import TorchMachine

STATE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "bn.running_var": np.array([2.0, 3.0]),
    "bn.num_batches_tracked": np.array(5, np.int64),
    "half": np.array([[1.5], [2.5]], np.float16),
    "empty": np.zeros((0, 3), np.float32),
}
SUFFIXES = pytest.mark.parametrize("suffix", [".pt", ".safetensors"])


def same(got, want=STATE):
    return list(got) == list(want) and all(
        np.array_equal(got[k], v) and got[k].dtype == v.dtype and got[k].shape == v.shape for k, v in want.items()
    )


def parts(raw):
    """Return {entry: content} of an archive."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def older(raw):
    """Return an archive's content in the form before PyTorch 1.6."""
    entries = parts(raw)
    keys = [str(i) for i in range(len(STATE))]
    sizes = [STATE[name].size for name in STATE]
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    blobs = [struct.pack("<q", n) + entries[f"archive/data/{key}"] for key, n in zip(keys, sizes, strict=True)]
    return b"".join([*head, entries["archive/data.pkl"], pickle.dumps(keys, 2), *blobs])


def read(tmp_path, raw):
    path = tmp_path / "state.pt"
    path.write_bytes(raw)
    return read_state(path)


@SUFFIXES
def test_a_state_comes_back_from_its_file(tmp_path, suffix):
    path = tmp_path / f"state{suffix}"
    write_state(path, STATE)
    got = read_state(path)
    assert same({name: got[name] for name in STATE})
    first = path.read_bytes()
    write_state(path, STATE)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_content_decides_and_not_the_name(tmp_path):
    write_state(tmp_path / "a.safetensors", STATE)
    (tmp_path / "a.safetensors").rename(tmp_path / "a.pt")
    assert len(read_state(tmp_path / "a.pt")) == len(STATE)


def test_the_older_form_is_read(tmp_path):
    assert same(read(tmp_path, older(torch_bytes(STATE))))


@pytest.mark.parametrize("zipped", [True, False])
def test_what_pytorch_saves_is_read(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.randn(5, 3, 4, 4)).sum().backward()
    optimiser.step()
    state = net.state_dict()
    transposed = {"w": torch.arange(6.0).reshape(2, 3).T, "tied": state["0.bias"], "b": torch.ones(3).bfloat16() / 3}
    checkpoint = {"epoch": 3, "lr": 0.1, "optimizer": optimiser.state_dict(), "state_dict": {**state, **transposed}}
    for saved, want in ((state, state), (checkpoint, checkpoint["state_dict"])):
        torch.save(saved, tmp_path / "theirs.pt", _use_new_zipfile_serialization=zipped)
        got = read_state(tmp_path / "theirs.pt")
        assert list(got) == list(want)
        for name, value in want.items():
            value = value.float() if value.dtype == torch.bfloat16 else value
            assert np.array_equal(got[name], value.numpy()), name
            assert got[name].dtype == value.numpy().dtype


def test_safetensors_of_pytorch_are_read(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import save_file

    state = {"a": torch.arange(6.0).reshape(2, 3), "b": (torch.ones(3) / 3).bfloat16(), "c": torch.tensor(7)}
    save_file(state, tmp_path / "theirs.safetensors")
    got = read_state(tmp_path / "theirs.safetensors")
    assert got.keys() == state.keys()
    for name, value in state.items():
        assert np.array_equal(got[name], (value.float() if name == "b" else value).numpy())
    save_file({"w": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "eight.safetensors")
    with pytest.raises(StateError, match=r"'w' has dtype F8_E4M3, which no layer has"):
        read_state(tmp_path / "eight.safetensors")


def test_pytorch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    write_state(tmp_path / "ours.pt", STATE)
    got = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert same({name: value.numpy() for name, value in got.items()})


# -- hostile and damaged -----------------------------------------------------------------------------------------------


class _Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", ["os.system", "eval", "exec", "open"])
def test_a_pickle_that_calls_is_refused_and_calls_nothing(tmp_path, name, protocol):
    import os

    marker = tmp_path / "called"
    code = f"open({str(marker)!r}, 'w')"
    call = {
        "os.system": _Calls(os.system, f"touch {marker}"),
        "eval": _Calls(eval, code),
        "exec": _Calls(exec, code),
        "open": _Calls(open, str(marker), "w"),
    }[name]
    program = pickle.dumps({"weight": call}, protocol)
    for raw in (packed({"a/data.pkl": program}), older(torch_bytes(STATE))[:38] + program):
        with pytest.raises(StateError) as caught:
            read(tmp_path, raw)
        assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_packed_archive_is_refused_unread(tmp_path):
    entries = parts(torch_bytes({"w": np.zeros(1 << 22, np.float32)}))
    raw = packed(entries, zipfile.ZIP_DEFLATED)
    assert len(raw) < 1 << 16
    tracemalloc.start()
    with pytest.raises(StateError, match="is packed"):
        read(tmp_path, raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


def test_entries_that_share_their_bytes_are_no_more_than_the_file(tmp_path):
    """Each storage's content is all that follows: headers and contents of the next ones, again and again."""
    state, entries, count = {}, [], 40
    content = bytes(1 << 16)
    for i in reversed(range(count)):
        name = f"archive/data/{i}".encode()
        facts = struct.pack("<HHHHHIII", 20, 0, 0, 0, 33, zlib.crc32(content), len(content), len(content))
        entries.append((name, facts, len(content)))
        state[i] = np.frombuffer(content, np.uint8)
        content = b"PK\x03\x04" + facts + struct.pack("<HH", len(name), 0) + name + content
    program = parts(torch_bytes({str(i): state[i] for i in range(count)}))["archive/data.pkl"]
    name = b"archive/data.pkl"
    facts = struct.pack("<HHHHHIII", 20, 0, 0, 0, 33, zlib.crc32(program), len(program), len(program))
    raw = content + b"PK\x03\x04" + facts + struct.pack("<HH", len(name), 0) + name + program
    directory = b""
    at = {name: len(content)} | {n: len(content) - size - 30 - len(n) for n, _, size in entries}
    for n, f in [(n, f) for n, f, _ in entries] + [(name, facts)]:
        directory += (
            b"PK\x01\x02" + struct.pack("<H", 20) + f + struct.pack("<HHHHHII", len(n), 0, 0, 0, 0, 0, at[n]) + n
        )
    end = struct.pack("<HHHHIIH", 0, 0, count + 1, count + 1, len(directory), len(raw), 0)
    raw += directory + b"PK\x05\x06" + end
    with pytest.raises(StateError, match=r"is too large|[Oo]verlap"):  # newer zipfile modules see it themselves
        read(tmp_path, raw)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((25,), (1,), 0), ((24,), (1,), 1), ((5,), (6,), 0), ((1 << 39,), (0,), 0), ((0, 1 << 39, 1 << 39), (1, 1, 1), 0)],
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, shape, strides, offset):
    from minidl.interchange.torch_file import _integer, _text, _tuple

    program = b"\x80\x02}" + _text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + _text("storage")
    program += b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _integer(24) + b"tQ" + _integer(offset)
    program += _tuple(shape) + _tuple(strides) + b"\x89}tRs."
    with pytest.raises(StateError, match="expected a tensor"):
        read(tmp_path, packed({"a/data.pkl": program, "a/data/0": bytes(96)}))


def test_what_is_no_state_is_refused(tmp_path):
    for raw in (b"", b"PK\x03\x04", b"hello", packed({"a.txt": b""}), packed({"a/data.pkl": b"\x80\x02]."})):
        with pytest.raises(StateError) as caught:
            read(tmp_path, raw)
        assert "\n" not in str(caught.value)
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StateError):
            read_state(path)


def attempt(raw, tmp_path_factory):
    """Read; anything but a state of arrays and a StateError fails."""
    path = tmp_path_factory.getbasetemp() / "fuzz.pt"
    path.write_bytes(raw)
    try:
        state = read_state(path)
    except StateError as error:
        if "\n" in str(error):
            raise
        return
    for name, value in state.items():
        assert isinstance(name, str)
        assert value.tobytes() is not None  # every value lies within what was read


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


def changed(raw, changes):
    raw = bytearray(raw)
    for place, value in changes:
        raw[int(place * len(raw))] = value
    return bytes(raw)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@given(CHANGES, st.sampled_from(["archive", "pickle", "older", "safetensors"]))
def test_changed_bytes_are_refused_or_harmless(tmp_path_factory, changes, where):
    raw = torch_bytes(STATE)
    if where == "archive":
        raw = changed(raw, changes)
    elif where == "pickle":
        entries = parts(raw)
        raw = packed(entries | {"archive/data.pkl": changed(entries["archive/data.pkl"], changes)})
    elif where == "older":
        raw = changed(older(raw), changes)
    else:
        from safetensors.numpy import save

        raw = changed(save({name: np.array(value) for name, value in STATE.items()}), changes)
    attempt(raw, tmp_path_factory)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_pickle_are_refused_or_harmless(tmp_path_factory, program):
    attempt(packed({"a/data.pkl": b"\x80\x02" + program, "a/data/0": bytes(96)}), tmp_path_factory)


OPCODES = sorted(TorchMachine.STEPS)


@given(st.lists(st.sampled_from(OPCODES), max_size=60), st.binary(max_size=40))
def test_any_program_of_known_instructions_is_refused_or_harmless(tmp_path_factory, codes, operands):
    program = b"".join(bytes([code]) + operands[i % 7 : i % 7 + i % 5] for i, code in enumerate(codes))
    attempt(packed({"a/data.pkl": program}), tmp_path_factory)
