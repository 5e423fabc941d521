"""Promise 4: a checkpoint, a configuration or a record of somebody else is refused in one line and little memory."""

import hashlib
import json
import re
import tracemalloc
from types import SimpleNamespace

import pytest

import minidl
from minidl.bench.record import load as load_report
from minidl.evaluate.__main__ import _is_evaluation
from minidl.evaluate.__main__ import main as evaluate
from minidl.export.__main__ import main as export
from minidl.outputs import is_exported, run_around
from minidl.predict.__main__ import main as predict
from minidl.reproduce.provenance import versions_of
from minidl.reproduce.store import ReproduceError
from minidl.train.__main__ import main as train
from minidl.train.checkpoint import CheckpointError
from minidl.train.record import RunError

BLANK = b"0" * 64
DEEP = b'{"a":' * 100_000


def signed(header, body=b"", length=None):
    """Return a safetensors file that its own sha256 stands in, as in a whole checkpoint."""
    content = (len(header) if length is None else length).to_bytes(8, "little") + header + body
    return content.replace(BLANK, hashlib.sha256(content).hexdigest().encode(), 1)


def with_record(stopped, change):
    """Return a checkpoint of a run, changed in what it says of that, and signed anew."""
    content = max((stopped / "checkpoints").iterdir()).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    text = header["__metadata__"]["minidl"]
    meta = json.loads(text.split(" ", 1)[1])
    change(meta["run"])
    header["__metadata__"]["minidl"] = f"sha256:{BLANK.decode()} {json.dumps(meta)}"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", text.split(" ", 1)[0])
    return signed(json.dumps(header).encode(), content[end:])


def commands(file, folder):
    """Return what each command is given to use this checkpoint."""
    new = ["lenet", "mnist", "--sample", "--updates", "1", "--quiet", "--from", str(file), "--out", str(folder / "N")]
    return {
        "evaluate": lambda: evaluate([str(file)]),
        "predict": lambda: predict([str(file), str(folder / "image.png")]),
        "export": lambda: export([str(file), "--torch", str(folder / "net.pth")]),
        "train": lambda: train([*new, "--norm", "none", "--batch-size", "8"]),
    }


HEADERS = {
    "nested deeply": signed(DEEP + b'"sha256:' + BLANK + b'"'),
    "metadata nested deeply": signed(b'{"__metadata__": {"minidl": "sha256:' + BLANK + b" " + b"[" * 100_000 + b'"}}'),
    "metadata is a number": signed(b'{"__metadata__": 3, "a": "sha256:' + BLANK + b'"}'),
    "metadata is text": signed(b'{"__metadata__": "minidl sha256:' + BLANK + b'"}'),
    **{f"length 2^{n}": signed(b'{"minidl": "sha256:' + BLANK + b'"}', length=1 << n) for n in (31, 40, 53, 63)},
    "length of all bits": signed(b'{"minidl": "sha256:' + BLANK + b'"}', length=(1 << 64) - 1),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_a_stranger_is_refused_in_one_line_by_every_command_and_in_little_memory(tmp_path, capsys, name):
    file = tmp_path / "theirs.safetensors"
    file.write_bytes(HEADERS[name])
    tracemalloc.start()
    try:
        with pytest.raises((CheckpointError, RunError)) as error:
            minidl.load(file)
        assert "\n" not in str(error.value)
        for command, run in commands(file, tmp_path).items():
            assert run() in (1, 4), command
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1), command
            assert str(file) in err
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("missing", ["model", "task", "norm"])
@pytest.mark.parametrize("value", ["nothing", None, 3, ["lenet"]])
def test_a_record_that_names_no_network_is_refused_in_one_line(tmp_path, stopped, capsys, missing, value):
    def change(record):
        record["config"][missing] = value
        if value == "nothing":
            del record["config"][missing]

    file = tmp_path / "theirs.safetensors"
    file.write_bytes(with_record(stopped, change))
    for command, run in commands(file, tmp_path).items():
        assert run() in (1, 4), command
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), command
        assert str(file) in err


def test_json_of_any_depth_is_no_file_of_minidl(tmp_path):
    (tmp_path / "config.json").write_bytes(DEEP)
    (tmp_path / "weights.safetensors").write_bytes(len(DEEP).to_bytes(8, "little") + DEEP)
    assert run_around(tmp_path) is None
    assert not is_exported(tmp_path / "weights.safetensors")
    assert not _is_evaluation(DEEP)
    with pytest.raises(ValueError, match="must be a file that --json wrote"):
        load_report(tmp_path / "config.json")


@pytest.mark.parametrize(
    "line", [b"{", DEEP, b"[]", b"{}", b'{"minidl": 3}', b'{"minidl": "0.1.0", "commit": []}', b"\xff"]
)
def test_a_damaged_record_of_the_starts_of_a_run_is_named_by_its_line(tmp_path, line):
    (tmp_path / "starts.jsonl").write_bytes(b'{"minidl": "0.1.0", "commit": "abc"}\n' + line + b"\n")
    run = SimpleNamespace(path=tmp_path, minidl="0.1.0")
    with pytest.raises(ReproduceError, match=r"starts\.jsonl is damaged in line 2; mend or remove that line"):
        versions_of([run])
    (tmp_path / "starts.jsonl").write_bytes(b'{"minidl": "0.1.0", "commit": "abc"}\n{"minidl": "0.1.0"}\n')
    assert versions_of([run]) == ["minidl 0.1.0, commit abc", "minidl 0.1.0"]
