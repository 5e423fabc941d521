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
        (["RUN", "--safetensors", "a.pt"], 2, "must not end in .pt"),
        (["RUN", "--torch", "a.onnx"], 2, "must end in .pt"),
        (["nowhere", "--torch", "a.pt"], 1, "minidl.export: nowhere"),
        (["RUN", "--torch", "no/folder/a.pt"], 1, "No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(trained, tmp_path, monkeypatch, capsys, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    arguments = [str(trained[0]) if word == "RUN" else word for word in arguments]
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
