"""A trained network, loaded again: `minidl.load`, and what it takes and refuses."""

import json
import shutil
import sys

import numpy as np
import pytest
from photo_run import CLASSES, folder_of_photos, run_on_photos
from PIL import Image
from tiny_run import make_tiny, tiny_config, tiny_task
from tolerance import assert_close, rounding, terms

import minidl
from minidl.data import DataError
from minidl.data.fit import fit
from minidl.train import RunError, Trainer, checkpoint
from minidl.train.checkpoint import CheckpointError

__all__ = ["folder_of_photos", "run_on_photos"]  # fixtures
pytestmark = pytest.mark.usefixtures("no_curves")


def test_a_loaded_run_is_the_network_that_was_trained_in_evaluation_mode(run):
    out, trainer = run
    net = minidl.load(out)
    assert not any(layer.training for _, layer in net.network.named_layers())
    assert (net.class_names, net.step, net.shape) == (CLASSES, trainer.total, (3, 32, 32))
    for name, array in trainer.model.state().items():
        np.testing.assert_array_equal(net.network.state()[name], array)
    last = trainer.history[-1]
    assert net.evaluate(trainer.task) == {
        name: last[name] for name in ("test_loss", "test_error", "test_errors", "gates")
    }


def test_a_checkpoint_alone_gives_the_same_predictions_as_its_run(run, tmp_path):
    out, trainer = run
    images = trainer.task.test.images
    expected = minidl.load(out).predict(images).probabilities
    older, newest = checkpoint.list_steps(out / "checkpoints")
    (tmp_path / "alone").mkdir()
    shutil.copy(newest, tmp_path / "alone")
    for path in (newest, tmp_path / "alone" / newest.name):
        np.testing.assert_array_equal(minidl.load(path).predict(images).probabilities, expected)
    assert minidl.load(older).step == 12
    assert not np.array_equal(minidl.load(older).predict(images).probabilities, expected)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(run, capsys):
    out, _ = run
    older, newest = checkpoint.list_steps(out / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-3])
    assert minidl.load(out).step == 12
    assert "is damaged" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="is damaged"):
        minidl.load(newest)
    named = out / "of_mine.py"
    named.write_text("import numpy\n")
    (out / "config.json").rename(out / "config.old")  # beside which any file is one of the run
    with pytest.raises(
        CheckpointError, match=r"of_mine.py is no checkpoint of minidl; give a run's folder or a file in"
    ):
        minidl.load(named)
    (out / "config.old").rename(out / "config.json")
    older.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        minidl.load(out)


def test_a_model_is_not_needed_where_minidl_has_the_network(run):
    with pytest.raises(RunError, match=r" was trained with minidl's own network \w+; leave out model=$"):
        minidl.load(run[0], model=make_tiny)


def test_predictions_are_the_softmax_of_the_logits_of_what_training_made_of_the_image(run, folder):
    net = minidl.load(run[0])
    paths = sorted(folder.rglob("*.png"))
    got = net.predict(paths)
    pixels = np.stack([fit(Image.open(path), 32) for path in paths])
    x = (pixels / 255 - net.mean[:, None, None]) / net.std[:, None, None]

    def softmax(x):
        powers = np.exp(net.network.forward(x).astype(np.float64))
        return powers / powers.sum(axis=1, keepdims=True)

    x = x.astype(np.float32)
    assert_close(got.probabilities, softmax(x), rounding(softmax, {"x": x})["y"] + terms(16, 1, "float32"))
    assert got.labels.tolist() == got.probabilities.argmax(axis=1).tolist()
    assert got.names == [CLASSES[k] for k in got.labels]
    best = got.top(2, CLASSES)[0]
    assert best[0] == (got.names[0], got.probabilities[0].max())
    assert best[0][1] >= best[1][1] >= 1 - best[0][1] - best[1][1]


def test_every_kind_of_image_means_the_same(run, folder):
    net = minidl.load(run[0])
    colour, grey = folder / "bee" / "01.png", folder / "bee" / "02.png"
    for path in (colour, grey):
        image = Image.open(path)
        pixels = np.asarray(image)
        kinds = [path, str(path), image, pixels, pixels[None] if pixels.ndim == 3 else [pixels]]
        kinds += [[np.moveaxis(pixels, 2, 0)]] if pixels.ndim == 3 else [pixels[..., None], pixels[None]]
        for kind in kinds:
            np.testing.assert_array_equal(net.inputs(kind), net.inputs([path]), err_msg=str(type(kind)))
    assert net.predict([colour, np.asarray(Image.open(grey))]).probabilities.shape == (2, 3)
    assert net.predict([]).probabilities.shape == (0, 3)


def test_what_is_no_image_gets_one_line_with_the_cure(run, tmp_path):
    net = minidl.load(run[0])
    with pytest.raises(ValueError, match=r"an array must be uint8, got float64; give np.round\(255 \* x\)"):
        net.predict(np.zeros((32, 32, 3)))
    with pytest.raises(ValueError, match=r"must be one image \(H, W, 3\), got \(5, 5, 2\); reshape it, or give list"):
        net.predict(np.zeros((5, 5, 2), np.uint8))
    with pytest.raises(DataError, match=r"gone.png: no such file; correct its name"):
        net.predict("gone.png")


def test_there_is_one_line_with_the_cure_where_nothing_can_be_loaded(tmp_path, run):
    for path, message in (
        ("nowhere", "nowhere: no such run or checkpoint; give a run's folder or a file in its checkpoints"),
        ("photos", "photos holds no run: it has no config.json; give the folder that --out named"),
    ):
        with pytest.raises(RunError, match=message):
            minidl.load(path)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(RunError, match=r"run was trained to its end, and its checkpoints are gone; put them back"):
        minidl.load("run")
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(RunError, match=r"run has no checkpoint yet; train it: python -m minidl.train --out run --res"):
        minidl.load("run")


def test_a_home_folder_that_is_not_there_is_said():
    with pytest.raises(RunError, match=r"^~nosuch-user/x: there is no home folder of that name; write the path out$"):
        minidl.load("~nosuch-user/x")


def test_a_run_that_did_not_record_its_inputs_is_loaded_with_its_data(run, folder):
    out, trainer = run
    expected = minidl.load(out).predict(trainer.task.test.images).probabilities
    record = json.loads((out / "config.json").read_text("utf-8"))
    del record["input"], record["dataset"]
    (out / "config.json").write_text(json.dumps(record))
    np.testing.assert_array_equal(minidl.load(out).predict(trainer.task.test.images).probabilities, expected)
    shutil.rmtree(folder)
    with pytest.raises(RunError, match="run: an earlier version trained it, and its data is needed once more"):
        minidl.load(out)


@pytest.mark.parametrize(
    "record", [5, {}, {"config": 3}, {"config": {}, "input": []}, {"code": 3}, {"code": {"norm": 1}}]
)
def test_a_checkpoint_alone_whose_record_is_anything_else_gets_one_line(run, tmp_path, record):
    tensors, meta = checkpoint.load(checkpoint.list_steps(run[0] / "checkpoints")[-1])
    if isinstance(record, dict) and "code" in record:
        record = {**meta["run"], **record}
    path = checkpoint.save(tmp_path / "alone", meta["step"], tensors, {**meta, "run": record})
    with pytest.raises(RunError, match=r"its record is damaged: .*; train it anew$"):
        minidl.load(path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *(("mean", [0.5, 0.5]), ("mean", ["1", "2", "3"]), ("mean", [1e308] * 3), ("mean", [True] * 3)),
        *(("std", [0.2, 0.0, 0.2]), ("std", [1e-300] * 3), ("std", [10**400] * 3)),
        *(("shape", [3, 32]), ("shape", [3, 20_000, 20_000]), ("shape", [1, 32, 32]), ("shape", [True, 32, 32])),
        *(("class_names", []), ("fit", "stretch")),
    ],
)
def test_a_record_that_is_damaged_gets_one_line(run, part, value):
    out, _ = run
    record = json.loads((out / "config.json").read_text("utf-8"))
    record["input"][part] = value
    (out / "config.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="run: its record is damaged: it does not say what the network takes; train it"):
        minidl.load(out)


OWN = """
from minidl import BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Sequential

class Norm(BatchNorm):
    def __init__(self, num_features):
        super().__init__(num_features, momentum=0.3)

class Net(Sequential):
    def __init__(self, num_classes, norm, rng):
        super().__init__(Conv2d(3, 5, 9, rng=rng), norm(5, rng), GlobalAvgPool2d(), Linear(5, num_classes, rng=rng))
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "parts_of_mine.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "parts_of_mine", raising=False)
    yield "parts_of_mine"
    sys.modules.pop("parts_of_mine", None)


def test_a_network_and_a_norm_of_ones_own_are_loaded_while_their_file_is_the_same(tmp_path, own_module, run):
    config = tiny_config(model=f"{own_module}:Net", norm=f"{own_module}:Norm", length="3u")
    trainer = Trainer(config, "mine", quiet=True, task=tiny_task())
    trainer.run()
    net = minidl.load("mine")
    assert type(net.network).__name__ == "Net"
    assert net.evaluate(trainer.task)["test_loss"] == trainer.history[-1]["test_loss"]
    (tmp_path / "parts_of_mine.py").write_text(OWN + "\n")
    with pytest.raises(
        RunError, match=r"mine: the file of parts_of_mine:Net has changed .*; put the old file back, or"
    ):
        minidl.load("mine")
    assert minidl.load("mine", check_code=False).step == 3
    del sys.modules["parts_of_mine"]
    (tmp_path / "parts_of_mine.py").unlink()
    with pytest.raises(RunError, match=r"mine: model parts_of_mine:Net: No module named .*; start in the folder of"):
        minidl.load("mine")


def test_a_network_given_from_python_is_given_again_or_found_by_its_name(run):
    def build():
        return make_tiny(4, 3, None, np.random.default_rng(3), "float32")

    task = tiny_task()
    for given, name in ((make_tiny, "named"), (build(), "object"), (lambda num_classes: build(), "unnamed")):
        Trainer(tiny_config(length="2u", norm="none" if name == "unnamed" else "mn"), name, quiet=True, task=task,
                model=given).run()  # fmt: skip
    assert minidl.load("named").step == 2  # tiny_run:make_tiny
    with pytest.raises(
        RunError, match=r"object: the network cannot be built .*; give it: minidl.load\(path, model=...\)"
    ):
        minidl.load("object", check_code=False)
    assert minidl.load("object", model=build()).step == 2
    with pytest.raises(
        RunError, match=r"unnamed was trained from Python with the network .*<lambda>, which is not found"
    ):
        minidl.load("unnamed")
