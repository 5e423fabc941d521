"""A file that a command is told to write takes no other file's place, whichever the command."""

import json
import os

import pytest

from minidl.bench.__main__ import main as bench
from minidl.check.__main__ import main as check
from minidl.outputs import DRAWING, JSON_LIST, JUNIT, ONNX, SAFETENSORS, TORCH, OutputError, check_outputs, run_around
from minidl.parity.__main__ import main as parity

ADAPTER = "minidl.check.adapters.minidl:Adapter"


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"minidl": "0", "config": {}}))
    (folder / "metrics.jsonl").write_text("{}\n")
    return folder


def test_the_folder_of_a_run_is_found_around_what_lies_in_it(tmp_path, run_folder):
    assert run_around(run_folder) == run_folder == run_around(run_folder / "checkpoints" / "deep")
    assert run_around(tmp_path) is None
    (run_folder / "config.json").unlink()
    assert run_around(run_folder) is None
    (run_folder / "checkpoints").mkdir()
    (run_folder / "checkpoints" / "step-000000001.safetensors").touch()
    assert run_around(run_folder) == run_folder


def test_a_config_of_another_program_makes_no_run(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert run_around(tmp_path) is None


@pytest.mark.parametrize("made", [os.symlink, os.link])
def test_one_file_is_not_named_twice(tmp_path, made):
    (tmp_path / "a.pt").write_bytes(b"\x80\x02")
    made(tmp_path / "a.pt", tmp_path / "b.bin")
    with pytest.raises(OutputError, match=r"--torch and --again must name two files, got .*b\.bin"):
        check_outputs([("--torch", tmp_path / "a.pt", TORCH), ("--again", tmp_path / "b.bin", TORCH)])


def test_a_link_to_another_file_does_not_hide_it(tmp_path, run_folder):
    os.symlink(run_folder / "new.onnx", tmp_path / "a.onnx")
    with pytest.raises(OutputError, match="the folder of a run"):
        check_outputs([("--onnx", tmp_path / "a.onnx", ONNX)])


def test_a_folder_is_not_taken_for_a_file(tmp_path):
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(OutputError, match="is there and no file"):
        check_outputs([("--onnx", tmp_path / "a.onnx", ONNX)])


@pytest.mark.parametrize("kind", [ONNX, SAFETENSORS, TORCH, JSON_LIST, JUNIT, DRAWING])
def test_each_kind_is_told_from_the_others(tmp_path, kind):
    contents = {
        ONNX: b"\x08\x08\x12\x06minidl",
        SAFETENSORS: b"\x10\0\0\0\0\0\0\0{}",
        TORCH: b"PK\x03\x04....archive/data.pkl",
        JSON_LIST: b"[\n{}]",
        JUNIT: b"<?xml?>\n<testsuites>",
        DRAWING: b"\x89PNG" + b"." * 100_000 + b"Matplotlib version" + b"." * 30,
    }
    for other, content in contents.items():
        path = tmp_path / f"file{(kind.endings or ('',))[0]}"
        path.write_bytes(content)
        if other is kind:
            check_outputs([("--to", path, kind)])
        else:
            with pytest.raises(OutputError, match="is there and is not"):
                check_outputs([("--to", path, kind)])
    path.write_bytes(b"")
    check_outputs([("--to", path, kind)])


COMMANDS = {
    "bench": (bench, ["--quick", "--only", "import", "--json"]),
    "parity": (parity, ["--backend", "numba", "--json"]),
    "check json": (check, ["run", ADAPTER, "--layer", "layer_norm", "--json"]),
    "check junit": (check, ["run", ADAPTER, "--layer", "layer_norm", "--junit"]),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["own.py", "runs/r/metrics.jsonl", "photo.png"])
def test_a_command_leaves_a_file_of_another_kind(command, name, tmp_path, run_folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(b"# mine\n")
    main, arguments = COMMANDS[command]
    assert main([*arguments, name]) == 2
    assert path.read_bytes() == b"# mine\n"
    assert capsys.readouterr().err.count("\n") == 1


def test_a_plot_takes_no_photographs_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert bench(["--quick", "--only", "import", "--plot", "photo.png"]) == 2
    assert "photo.png is there and is not a figure of matplotlib" in capsys.readouterr().err


def test_vectors_are_not_copied_over_another_index(tmp_path, run_folder, capsys):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.json").write_text('{"pages": []}')
    for folder in (tmp_path / "site", run_folder):
        assert check(["export", str(folder), "--layer", "layer_norm"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert sorted(path.name for path in run_folder.iterdir()) == ["config.json", "metrics.jsonl"]
    for _ in range(2):
        assert check(["export", str(tmp_path / "vectors"), "--layer", "layer_norm"]) == 0
