"""NumPy alone is enough for layers, norms and checks; what needs the extra `train` says so in one line."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from minidl.extras import TRAIN, MissingLibraryError, missing, require

WITHOUT = "import sys; sys.modules.update(dict.fromkeys({names!r})); "


def run(code: str, *missing: str) -> subprocess.CompletedProcess[str]:
    command = WITHOUT.format(names=missing or tuple(TRAIN)) + code
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=300)


PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]


def test_numpy_is_the_only_requirement_outside_the_extras() -> None:
    assert [line.split(">=")[0] for line in PROJECT["dependencies"]] == ["numpy"]


def test_the_extra_train_is_what_the_code_calls_it() -> None:
    assert sorted(line.split(">=")[0] for line in PROJECT["optional-dependencies"]["train"]) == sorted(TRAIN.values())


def test_a_step_and_a_check_need_numpy_alone() -> None:
    code = (
        "import numpy as np, minidl; from minidl import check;"
        "net = minidl.LeNet(norm=minidl.norm_factory('mn', modes=2), rng=np.random.default_rng(0));"
        "loss = minidl.SoftmaxCrossEntropy(); x = np.zeros((4, 3, 32, 32), np.float32);"
        "loss.forward(net.forward(x), np.arange(4)); net.backward(loss.backward());"
        "report = check.run('minidl.check.adapters.minidl:Adapter', 'layer_norm', 'float32');"
        "assert report.exit_code == 0"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_the_sample_is_read_without_them() -> None:
    done = run("from minidl.data import load_task; assert load_task('mnist', sample=True).num_classes == 10")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "missing", "message"),
    [
        (
            ["train", "lenet", "mnist", "--sample"],
            ["tqdm", "PIL"],
            "minidl.train: training needs pillow, tqdm, which are not installed; run: pip install 'minidl[train]'\n",
        ),
        (
            ["reproduce", "table1", "--sample"],
            ["safetensors"],
            "minidl.reproduce: reproducing the paper needs safetensors, which is not installed; "
            "run: pip install 'minidl[train]'\n",
        ),
        (
            ["bench", "--only", "import", "--plot", "p.png"],
            ["matplotlib"],
            "minidl.bench: --plot needs matplotlib, which is not installed; run: pip install 'minidl[train]'\n",
        ),
    ],
)
def test_a_command_without_its_libraries_is_one_line_and_status_1(arguments, missing, message) -> None:
    done = run(f"import minidl.__main__ as m; sys.exit(m.main({arguments!r}))", *missing)
    assert (done.returncode, done.stderr) == (1, message)


def test_only_a_download_needs_the_library_that_downloads(tmp_path) -> None:
    here = ["train", "lenet", "mnist", "--sample", "--updates", "1", "--out", str(tmp_path / "run")]
    done = run(f"import minidl.__main__ as m; sys.exit(m.main({here!r}))", "pooch")
    assert done.returncode == 0, done.stderr
    far = ["train", "lenet", "mnist", "--updates", "1", "--data-dir", str(tmp_path / "none")]
    done = run("from minidl.data.download import fetch; fetch(None, None, False)", "pooch")
    assert "MissingLibraryError: a download needs pooch, which is not installed" in done.stderr
    assert run(f"import minidl.__main__ as m; sys.exit(m.main({far!r}))", "pooch").returncode != 0


@pytest.mark.parametrize("asked", [["train", "--list"], ["train", "--help"], ["reproduce", "--help"]])
def test_what_there_is_can_be_asked_without_them(asked) -> None:
    assert run(f"import minidl.__main__ as m; sys.exit(m.main({asked!r}))").returncode == 0


def test_from_python_the_error_says_the_same(monkeypatch, tmp_path) -> None:
    from minidl.train import Config, Trainer

    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingLibraryError, match="a run that is kept needs safetensors, which is not installed"):
        Trainer(Config(sample=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    require("what", "tqdm")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two updates on the sample, and an image."""
    from PIL import Image

    from minidl.train import Config, Trainer

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minidl.train.plots.draw_run", lambda *args: None)
        settings = {"batch_size": 16, "length": "1u", "lr_drops": (), "backend": "numpy", "sample": True, "threads": 1}
        Trainer(Config("lenet", task="mnist", norm="bn", **settings), folder / "run", quiet=True).run()
    Image.new("RGB", (32, 32)).save(folder / "x.png")
    return folder


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("safetensors", ["predict", "run", "x.png"]),
        ("safetensors", ["evaluate", "run"]),
        ("safetensors", ["export", "run", "--onnx", "q.onnx"]),
        ("PIL", ["predict", "run", "."]),
    ],
)
def test_a_command_on_a_run_names_the_extra_that_is_missing(finished, arguments, library):
    here = f"import os; os.chdir({str(finished)!r}); "
    done = run(f"{here}import minidl.__main__ as m; sys.exit(m.main({arguments!r}))", library)
    subject = "loading a trained network needs " if library == "safetensors" else ""
    missing = f"{TRAIN[library]}, which is" if subject else f"{TRAIN[library]} is"
    line = f"minidl.{arguments[0]}: {subject}{missing} not installed; run: pip install 'minidl[train]'"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, line)
    assert "Traceback" not in done.stderr


def test_an_evaluation_without_its_picture_names_the_extra(finished, tmp_path):
    arguments = ["evaluate", str(finished / "run"), "--out", str(tmp_path), "--quiet", "--backend", "numpy"]
    done = run(f"import minidl.__main__ as m; sys.exit(m.main({arguments!r}))", "matplotlib")
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "minidl.evaluate: the picture could not be drawn (matplotlib is not installed; run: pip install "
        "'minidl[train]'); the numbers are whole\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "classes.csv", "confusion.csv"}


def test_every_library_of_an_extra_is_known() -> None:
    for extra, module in (("fast", "numba"), ("onnx", "onnx"), ("tensorboard", "tensorboard"), ("mpi", "mpi4py")):
        assert any(line.startswith(module) for line in PROJECT["optional-dependencies"][extra])
        error = ModuleNotFoundError(f"No module named '{module}'", name=f"{module}.part")
        assert missing(error) == f"{module} is not installed; run: pip install 'minidl[{extra}]'"
    assert missing(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
