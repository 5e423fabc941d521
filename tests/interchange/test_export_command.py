"""`minidl.export`: what it writes is the run's network, and a mistake is one line."""

import json
import shutil

import numpy as np
import pytest
from onnx_runs import moved, run, session
from tolerance import assert_close

from minidl import LeNet, norm_factory
from minidl.__main__ import main as minidl
from minidl.export.__main__ import main
from minidl.interchange import from_torch_state, read_state
from minidl.models.parts import first_alone
from minidl.train import Config, Trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A LeNet after two updates on the bundled sample: its folder, its network, its trainer."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    settings = {"batch_size": 16, "length": "2u", "lr_drops": (), "backend": "numpy", "sample": True, "threads": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minidl.train.plots.draw_run", lambda *args: None)
        trainer = Trainer(Config("lenet", norm="mn", norm_at="first", **settings), folder, quiet=True)
        trainer.run()
    return folder, trainer.model.eval(), trainer


def test_the_states_are_the_networks(trained, tmp_path, capsys):
    folder, net, _ = trained
    files = [tmp_path / name for name in ("own.safetensors", "named.safetensors", "net.pt")]
    assert minidl(["export", str(folder), "--safetensors", str(files[0])]) == 0
    assert main([str(folder), "--safetensors", str(files[1]), "--torch-names", "--torch", str(files[2])]) == 0
    shown = capsys.readouterr().out
    assert "minidl's names" in shown
    assert shown.count("x is (pixel/255 - mean)/std with mean 0.") == 2
    assert all(np.array_equal(value, read_state(files[0])[name]) for name, value in net.state().items())
    assert "5.num_batches_tracked" not in read_state(files[0])
    for file in files[1:]:
        other = LeNet(40, norm=first_alone(norm_factory("mn"), norm_factory("bn")))
        from_torch_state(other, read_state(file))
        assert "5.num_batches_tracked" in read_state(file)
        assert all(np.array_equal(value, net.state()[name]) for name, value in other.state().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)


def test_the_onnx_file_is_the_network(trained, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minidl[onnx]'")
    folder, net, trainer = trained
    assert main([str(folder), "--onnx", str(tmp_path / "net.onnx")]) == 0
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    assert_close(run(str(tmp_path / "net.onnx"), x), net(x), moved(net, x, trials=3))
    notes = session(str(tmp_path / "net.onnx")).get_modelmeta().custom_metadata_map
    assert json.loads(notes["mean"]) == trainer._loader.mean.tolist()
    assert json.loads(notes["std"]) == trainer._loader.std.tolist()
    assert json.loads(notes["class_names"]) == list(trainer.task.class_names)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["RUN"], 2, "give --onnx, --safetensors or --torch, and a file"),
        (["RUN", "--torch", "a.pt", "--torch-names"], 2, "--torch-names is for --safetensors"),
        (["RUN", "--safetensors", "a.pt"], 2, "must end in .safetensors, got a.pt; give --safetensors a.safetensors"),
        (["RUN", "--torch", "a.onnx"], 2, "must end in .pt, .pth, .bin, got a.onnx; give --torch a.pt"),
        (["RUN", "--onnx", "s.txt"], 2, "must end in .onnx, got s.txt; give --onnx s.onnx"),
        (["RUN", "--onnx", "RUN/config.json"], 2, "must end in .onnx"),
        (["RUN", "--safetensors", "RUN/checkpoints/new.safetensors"], 2, "--safetensors must lie outside"),
        (["RUN", "--torch", "a.bin", "--safetensors", "./a.bin"], 2, "must end in .safetensors"),
        (["nowhere", "--torch", "a.pt"], 1, "minidl.export: nowhere"),
        (["RUN", "--torch", "no/folder/a.pt"], 1, "No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(trained, tmp_path, monkeypatch, capsys, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    arguments = [word.replace("RUN", str(trained[0])) for word in arguments]
    try:
        got = main(arguments)
    except SystemExit as stopped:
        got = stopped.code
    err = capsys.readouterr().err
    assert (got, err.count("\n")) == (status, 1)
    assert err.startswith("minidl.export: ")
    assert said in err
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named(trained, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    for file in (folder / "checkpoints").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    assert main([str(folder), "--torch", str(tmp_path / "a.pt")]) == 4
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "arguments", "said"),
    [
        ("photo.pt", ["RUN", "--torch", "photo.pt"], "photo.pt is there and is not a file of torch.save"),
        ("own.onnx", ["RUN", "--onnx", "own.onnx"], "own.onnx is there and is not an ONNX file"),
        ("own.safetensors", ["RUN", "--safetensors", "own.safetensors"], "is not a safetensors file of weights alone"),
    ],
)
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"import minidl\n", b"{}\n"])
def test_a_file_of_another_kind_is_not_replaced(
    trained, tmp_path, monkeypatch, capsys, content, there, arguments, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / there).write_bytes(content)
    assert main([word.replace("RUN", str(trained[0])) for word in arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_a_checkpoint_is_not_replaced_by_weights(trained, tmp_path, capsys):
    (checkpoint,) = (trained[0] / "checkpoints").iterdir()
    content = checkpoint.read_bytes()
    assert main([str(trained[0]), "--safetensors", str(checkpoint)]) == 2
    alone = tmp_path / "kept.safetensors"
    shutil.copy(checkpoint, alone)
    assert main([str(alone), "--safetensors", str(alone)]) == 2
    assert main([str(trained[0]), "--safetensors", str(alone)]) == 2
    said = capsys.readouterr().err
    assert "the folder of a run" in said
    assert "must not be the file that is read" in said
    assert "is not a safetensors file of weights alone" in said
    assert checkpoint.read_bytes() == alone.read_bytes() == content


def test_what_was_exported_may_be_exported_again(trained, tmp_path):
    arguments = [str(trained[0]), "--safetensors", str(tmp_path / "a.safetensors"), "--torch", str(tmp_path / "a.pt")]
    for _ in range(2):
        assert main(arguments) == 0
