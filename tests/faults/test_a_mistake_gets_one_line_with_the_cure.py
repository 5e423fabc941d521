"""Promise 12: a mistake or a missing home gets one line with the cure, and a status."""

import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TOTAL, train
from train_command import run

import minidl
from minidl.data import DataError, Dataset, Task, load_task
from minidl.train import Config, ConfigError, RunError, Trainer, build, recipe
from minidl.train.__main__ import main

LENET = ["lenet", "mnist", "--sample", "--batch-size", "8", "--quiet", "--out", "R"]


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (
            ["--rarer", "mnist/1000"],
            2,
            "must be at most 2, the training images left by --rarer mnist/1000",
        ),
        (["--rarer", "mnist/99999999999999999999"], 2, "--rarer must be a dataset and how many times rarer"),
        (["--drop-factor", "1e200", "--lr-drops", "1u,2u"], 2, "--drop-factor must leave the rate positive and finite"),
        (["--updates", "9" * 400], 2, "a span of training must be at most 1e+15"),
        (["--lr-drops", "9" * 400], 2, "a span of training must be at most 1e+15"),
    ],
)
def test_settings_that_no_run_can_have(tmp_path, monkeypatch, capsys, args, status, message):
    monkeypatch.chdir(tmp_path)
    assert main([*LENET, *args]) == status
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def paths():
    """Return (command, arguments but for the path) for each path that a command takes."""
    found = [(command, []) for command in ("evaluate", "export", "predict")]  # the run
    for command in ("train", "evaluate", "predict", "export", "reproduce", "bench", "parity"):
        parser = import_module(f"minidl.{command}.__main__").make_parser()
        before = {"train": ["lenet", "mnist"], "reproduce": ["figure2"]}.get(command, [])
        if command == "reproduce":
            parser = next(action for action in parser._actions if action.choices).choices["figure2"]
        for action in parser._actions:
            if action.option_strings and action.metavar in ("DIR", "FILE", "RUN"):
                found.append((command, [*before, action.option_strings[0]]))
    return found


@pytest.mark.parametrize(
    ("command", "before"), paths(), ids=lambda value: value if isinstance(value, str) else value[-1:]
)
def test_a_home_of_nobody_and_an_empty_path_are_refused_wherever_a_command_takes_a_path(
    tmp_path, monkeypatch, capsys, command, before
):
    monkeypatch.chdir(tmp_path)
    after = ["image.png"] if command == "predict" else []
    for value, cure in (("~nosuch/x", "write the path out"), ("", ". is the folder you are in")):
        with pytest.raises(SystemExit) as left:
            import_module(f"minidl.{command}.__main__").main([*before, value, *after])
        out, err = capsys.readouterr()
        assert (left.value.code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"minidl.{command}: argument ")
        assert cure in err
    assert not list(tmp_path.iterdir())


def test_a_home_that_no_shell_replaced_is_the_home(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="--tensorboard: pip install 'minidl[tensorboard]'")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train("~/run", until=2, tensorboard="~/events")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events", "run"]
    record = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert record["config"]["tensorboard"] == str(tmp_path / "events")
    assert train("~/run", resume=True, tensorboard="~/events", start_from=None).step == TOTAL
    assert minidl.load("~/run").step == TOTAL


@pytest.mark.parametrize("field", ["data_dir", "start_from", "tensorboard"])
def test_a_home_of_nobody_is_refused_in_a_configuration(field):
    with pytest.raises(ConfigError, match=r"~nosuch/x: there is no home folder of that name; write the path out"):
        Config(**{field: "~nosuch/x"})


@pytest.mark.parametrize("use", [lambda: train("~nosuch/x"), lambda: minidl.load("~nosuch/x")])
def test_a_home_of_nobody_has_no_run(use):
    with pytest.raises(RunError, match=r"~nosuch/x: there is no home folder of that name; write the path out"):
        use()


@pytest.mark.parametrize("task", ["folder", "imagenet", "arrays", "mnist"])
def test_a_home_of_nobody_has_no_data(task):
    with pytest.raises(DataError, match=r"~nosuch/x: there is no home folder of that name; write the path out"):
        load_task(task, data_dir="~nosuch/x")


def test_an_unknown_home_asks_for_a_folder(monkeypatch):
    from pathlib import Path

    def unknown(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(DataError, match="the home folder is not known; set MINIDL_DATA"):
        load_task("mnist")
    assert load_task("mnist", sample=True, progress=False).num_classes == 10


@pytest.mark.parametrize(
    ("channels", "names"), [([0], "red is"), ([0, 2], "red and blue are"), ([0, 1, 2], "red, green and blue are")]
)
def test_images_that_are_the_same_everywhere(channels, names):
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 32, 32)).astype(np.uint8)
    images[:, channels] = 0
    labels = np.arange(9) % 2
    data = Dataset(images, labels, 0 * labels, ("x",), 2)
    with pytest.raises(Exception, match=f"^t: {names} the same in every pixel of the training images"):
        build.make_loaders(Config(batch_size=3), Task("t", 2, ("a", "b"), data, data, ()), np.random.default_rng(0))


@pytest.mark.parametrize(
    "changes", [{"lr": "0.1"}, {"lr_drops": (2,)}, {"length": 4}, {"batch_size": 2.5}, {"seed": True}]
)
def test_a_setting_of_another_kind_is_refused(changes):
    with pytest.raises(ConfigError, match="must be"):
        Config(**changes)


def test_numbers_of_numpy_are_numbers():
    config = Config(modes=np.int64(3), batch_size=np.int32(5), lr=np.float64(0.5), seed=np.uint8(2))
    assert config == Config(modes=3, batch_size=5, lr=0.5, seed=2)
    assert config.to_json()["modes"] == 3


def test_a_folder_that_holds_a_run_is_not_written_to_again(tmp_path):
    train(tmp_path / "run", until=2)
    with pytest.raises(
        RunError, match=r"run already holds a run; --resume continues it, another --out starts a new one"
    ):
        train(tmp_path / "run")


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(RunError, match=r"run holds no run to resume; leave out --resume to start one"):
        train(tmp_path / "run", resume=True)


MISTAKES = [
    (["lenet"], 2, "give a model and a task, such as: python -m minidl.train lenet multitask --sample"),
    (["lenett", "multitask"], 2, "unknown model 'lenett'; did you mean 'lenet'?"),
    (["lenet", "minst"], 2, "unknown task 'minst'; did you mean 'mnist'?"),
    (["lenet", "mnist", "--norm", "b"], 2, "unknown norm 'b'"),
    (["lenet", "mnist", "--modes", "0"], 2, "--modes must be at least 1, got 0"),
    (
        ["lenet", "mnist", "--modes", "two"],
        2,
        "argument --modes: must be a whole number, several or auto, such as 2 or 2,6, got 'two'",
    ),
    (["lenet", "mnist", "--modes", "2,0"], 2, "--modes must be at least 1, got 2,0; give a whole number from 1 up"),
    (["lenet", "mnist", "--modes", "2,3,4", "--sample"], 2, "--modes must be one K or 2, one for each norm"),
    (["lenet", "mnist", "--modes", "2,", "--sample"], 2, "argument --modes: must be a whole number, several or auto"),
    (["lenet", "mnist", "--modes", "3", "--norm", "mn", "--rarer", "svhn"], 2, "write svhn/10"),
    (["lenet", "mnist", "--rarer", "svhn/10", "--sample"], 2, "the dataset must be one of mnist, got 'svhn'"),
    (["lenet", "mnist", "--norm", "gn", "--groups", "4", "--sample"], 2, "GroupNorm"),
    (
        ["lenet", "mnist", "--modes", "9" * 400],
        2,
        "--modes must be at most 10000, got a number of 400 digits; lower it",
    ),
    (["lenet", "mnist", "--modes", "9" * 5000], 2, "such as 2 or 2,6, got '99999999999999999999… (5000 digits)'"),
    (["lenet", "mnist", "--modes", "99999999999"], 2, "--modes must be at most 10000, got 99999999999; lower it"),
    (["lenet", "mnist", "--max-modes", "10001"], 2, "--max-modes must be at most 10000, got 10001; lower it"),
    (["lenet", "mnist", "--seed", "9" * 400], 2, "got a number of 400 digits; lower it"),
    (["lenet", "mnist", "--seed", "9" * 5000], 2, "must be a whole number, got '99999999999999999999… (5000 digits)'"),
    (["lenet", "mnist", "--norm", "gn", "--groups", "9" * 30], 2, "--groups must be at most 65536"),
    (["lenet", "mnist", "--batch-size", "9" * 30], 2, "--batch-size must be at most 2147483647"),
    (["lenet", "mnist", "--threads", "9" * 30], 2, "--threads must be at most 65536"),
    (["lenet", "mnist", "--eval-every", "9" * 30], 2, "--eval-every must be at most 1000000000000000"),
    (["lenet", "mnist", "--lr", "-1"], 2, "--lr must be positive and finite, got -1.0"),
    (["lenet", "mnist", "--epochs", "0"], 2, "the length of a run must be positive"),
    (["lenet", "mnist", "--epochs", "3u"], 2, "argument --epochs: must be a plain number, such as 15, got '3u'"),
    (["lenet", "mnist", "--epochs", "-1"], 2, "argument --epochs: must be positive, got '-1'"),
    (["lenet", "mnist", "--touches=-.5M"], 2, "argument --touches: must be positive, got '-.5M'"),
    (["lenet", "mnist", "--seed", "1.5"], 2, "argument --seed: must be a whole number, got '1.5'"),
    (["lenet", "mnist", "--epochs", "1,5"], 2, "--epochs: must be a number, got '1,5'; write it with a point, 1.5 ("),
    (["lenet", "mnist", "--touches", "3,5M"], 2, "must be a number, got '3,5M'; write it with a point, 3.5M ("),
    (["lenet", "folder", "--test-share", "20%"], 2, "must be a number, got '20%'; write it as a share of 1, 0.2 ("),
    (
        ["lenet", "mnist", "--sample", "--out", "file"],
        1,
        "file is a file, not a folder; give another --out",
    ),
    (["lenet", "mnist", "--updates", "some"], 2, "argument --updates: must be a plain number, such as 15, got 'some'"),
    (["lenet", "mnist", "--epochs", "3", "--updates", "4"], 2, "not allowed with argument --epochs"),
    (["lenet", "mnist", "--lr-drops", "10e,soon"], 2, "'soon' is no span of training; write 15e (epochs), 50000u"),
    (["lenet", "mnist", "--sample", "--data-dir", "."], 2, "not allowed with argument --sample"),
    (["lenet", "mnist", "--sample", "--batch-size", "9999"], 2, "--batch-size must be at most 1150"),
    (["lenet", "mnist", "--colour", "blue"], 2, "unrecognized arguments: --colour blue"),
    (["lenet", "mnist", "--backend", "gpu"], 2, "unknown backend 'gpu'; choose from numpy, numba, cupy, auto"),
    (["lenet", "mnist", "--data-dir", "absent"], 4, "absent"),
    (["lenet", "mnist", "--sample", "--resume"], 1, "holds no run to resume; leave out --resume"),
    (["--resume", "--out", "absent"], 1, "absent holds no run to resume; leave out --resume"),
    (["lenet", "mnist", "--sample", "--out", "file/run"], 1, "Not a directory; choose another --out"),
]


@pytest.mark.parametrize(
    ("args", "status", "message"), MISTAKES, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else ""
)
def test_a_mistake_gets_one_line_with_the_cure_and_a_status(tmp_path, monkeypatch, capsys, args, status, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    try:
        code = main([*args, "--quiet"])
    except SystemExit as left:  # argparse
        code = left.code
    assert code == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minidl.train: ")
    assert message in err
    assert err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_truncated_data_file_gets_one_line(tmp_path):
    sample = Path(minidl.__file__).parent / "data" / "sample" / "mnist"
    folder = tmp_path / "mnist"
    folder.mkdir()
    for path in sample.iterdir():
        data = path.read_bytes()
        (folder / path.name).write_bytes(data[: len(data) // 2] if "train-images" in path.name else data)
    status, _, err = run(tmp_path, "lenet", "mnist", "--data-dir", tmp_path, "--updates", "1")
    assert status == 4
    assert "Traceback" not in err
    assert "train-images" in err.splitlines()[-1]


def test_a_backend_that_cannot_be_used_gets_one_line_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minidl.backend.why_no_cupy", lambda: "cupy finds no CUDA device; install the NVIDIA driver")
    assert main(["lenet", "mnist", "--sample", "--backend", "cupy", "--quiet"]) == 1
    assert capsys.readouterr().err == (
        "minidl.train: backend cupy cannot be used: cupy finds no CUDA device; install the NVIDIA driver\n"
    )


REFUSED = {  # once the backend is chosen
    "no data": ("train", ["lenet", "mnist", "--data-dir", "absent"], 4),
    "a batch that is too large": ("train", ["lenet", "mnist", "--sample", "--batch-size", "9999"], 2),
    "a run of other settings": ("train", ["tiny", "mnist", "--sample", "--out", "run", "--resume", "--lr", "1"], 1),
    "a run that is not finished": ("train", ["lenet", "mnist", "--sample", "--out", "lenet", "--updates", "3"], 1),
    "no run": ("evaluate", ["absent"], 1),
    "a run without its data": ("evaluate", ["run"], 1),
    "no data to evaluate": ("evaluate", ["run", "--task", "folder", "--data-dir", "absent"], 4),
    "no image": ("predict", ["run", "absent.png"], 4),
    "no data to reproduce": ("reproduce", ["table1", "--data-dir", "absent"], 4),
    "NumPy beside itself": ("parity", [], 1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_one_line_whatever_there_is_to_say_of_the_backend(tmp_path, monkeypatch, capsys, stopped, what):
    command, args, status = REFUSED[what]
    shutil.copytree(stopped, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minidl.backend.has_gpu", lambda: True)
    monkeypatch.setattr("minidl.backend.why_no_cupy", lambda: "cupy is not installed")
    monkeypatch.setattr("minidl.backend.why_no_numba", lambda: "numba cannot be imported")
    if "lenet" in args[-3:]:
        Trainer(replace(recipe("lenet", "mnist"), sample=True, length="3u", backend="numpy"), "lenet", quiet=True)
        capsys.readouterr()
    assert import_module(f"minidl.{command}.__main__").main([*args, "--backend", "auto"]) == status
    err = capsys.readouterr().err
    assert err.startswith(f"minidl.{command}: ")
    assert err.count("\n") == 1


def test_what_is_to_be_said_of_the_backend_is_said_once_when_the_work_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minidl.backend.has_gpu", lambda: False)
    monkeypatch.setattr("minidl.backend.why_no_numba", lambda: "numba cannot be imported")
    command = ["lenet", "mnist", "--sample", "--updates", "1", "--batch-size", "4", "--out", "run", "--backend", "auto"]
    said = "minidl: backend auto: numpy, since numba cannot be imported\n"
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr().err == said
    for name, args in (("evaluate", ["run"]), ("predict", ["run", "image.png"])):
        Image.fromarray(np.zeros((32, 32), np.uint8)).save("image.png")
        assert import_module(f"minidl.{name}.__main__").main([*args, "--backend", "auto"]) == 0
        assert capsys.readouterr().err == said


PATHS = [
    ("train", ["lenet", "mnist", "--sample", "--out", "a\0b"], 2),
    ("train", ["lenet", "mnist", "--data-dir", "a\0b"], 2),
    ("train", ["lenet", "mnist", "--sample", "--tensorboard", "a\0b"], 2),
    ("train", ["lenet", "mnist", "--sample", "--from", "a\0b"], 2),
    ("evaluate", ["R", "--out", "a\0b"], 2),
    ("predict", ["R", "a\0b"], 2),
    ("export", ["R", "--onnx", "a\0b"], 2),
    ("reproduce", ["table1", "--out", "a\0b"], 2),
    ("bench", ["--json", "a\0b"], 2),
    ("parity", ["--json", "a\0b"], 2),
    ("check", ["export", "a\0b"], 2),
    ("bench", ["--batch", "999999999999"], 2),
    ("bench", ["--threads", "9" * 5000], 2),
    ("check", ["export", "file/x"], 2),
    ("check", ["verify", "file/x", "file/y"], 2),
]


@pytest.mark.parametrize(("command", "args", "status"), PATHS)
def test_a_mistake_in_the_arguments_of_any_command_gets_one_line(tmp_path, monkeypatch, capsys, command, args, status):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    try:
        code = import_module(f"minidl.{command}.__main__").main(args)
    except SystemExit as left:
        code = left.code
    assert code == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "[Errno" not in err
    assert len(err) < 300
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_the_folder_of_a_run_has_no_null_character():
    with pytest.raises(RunError, match="must have no null character; give another --out"):
        train("a\0b")


def test_a_measurement_that_finds_no_memory_says_so(monkeypatch, capsys):
    from minidl.bench import __main__ as bench

    def fail(*args, **more):
        raise MemoryError

    monkeypatch.setattr(bench.record, "header", fail)
    assert bench.main(["--only", "import", "--quick"]) == 1
    assert capsys.readouterr().err == ("minidl.bench: the memory does not suffice; lower --batch, or leave it out\n")


def test_what_cannot_be_written_is_named_as_it_was_given(tmp_path):
    from minidl.interchange import write_state

    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as error:
        write_state(tmp_path / "file" / "x.pt", {"w": np.ones(3)})
    assert error.value.filename == str(tmp_path / "file" / "x.pt")
