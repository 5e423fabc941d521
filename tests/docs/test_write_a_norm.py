"""docs/write-a-norm.md, word for word: its files are written, its commands run."""

import json
import re

import numpy as np
import pytest
from following import DOCS, commands_of, files_of, follow, run

from minidl import check
from minidl.train import RunError, Trainer, recipe

PAGE = DOCS / "write-a-norm.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages are not beside an installed package")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which somebody followed the page, and what each command printed."""
    folder = tmp_path_factory.mktemp("page")
    return folder, follow(folder, PAGE.read_text("utf-8"))


def test_the_page_has_its_files_and_commands():
    page = PAGE.read_text("utf-8")
    files = ["my_norm.py", "check_my_norm.py", "compare.py", "my_l1.py", "my_net.py", "train_mine.py"]
    assert list(files_of(page)) == files
    assert len(commands_of(page)) == 7


def test_the_layer_conforms_and_its_gradients_are_right(followed):
    _, printed = followed
    cases, errors = printed["python check_my_norm.py"].splitlines()
    assert re.match(r"\d\d+ cases: (\d+) passed, 0 failed", cases), cases
    for error in re.findall(r"(\de-\d\d)", errors):
        assert float(error) < 1e-7
    assert len(re.findall(r"'(x|weight|bias)'", errors)) == 3


def test_a_wrong_sign_is_found(followed, tmp_path):
    folder, _ = followed
    for name in ("my_norm.py", "check_my_norm.py"):
        text = (folder / name).read_text("utf-8").replace("+ d * grads", "- d * grads")
        (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(AssertionError, match=r"gradient|dweight|weight"):
        run(tmp_path, "python check_my_norm.py")


def test_lenet_learns_with_it(followed):
    folder, _ = followed
    summary = json.loads((folder / "runs" / "renorm" / "summary.json").read_text("utf-8"))
    assert summary["status"] == "finished"
    assert summary["best"]["test_error"] < 85  # of 40 classes
    code = json.loads((folder / "runs" / "renorm" / "config.json").read_text("utf-8"))["code"]
    assert code["norm"]["name"] == "my_norm:BatchRenorm"
    assert len(code["norm"]["sha256"]) == 64


def test_it_is_compared_with_batch_norm_over_the_seeds(followed):
    folder, printed = followed
    lines = printed["python compare.py"].splitlines()
    assert len(lines) == 3
    means = [float(re.fullmatch(r".+: (\d+\.\d\d) ± \d+\.\d\d", line)[1]) for line in lines[:2]]
    found = re.fullmatch(r"minus bn: ([+-]\d+\.\d\d) \[([+-].+), ([+-].+)\]", lines[2])
    mean, low, high = map(float, found.groups())
    assert low <= mean <= high
    assert abs(means[1] - means[0] - mean) <= 0.02  # three numbers rounded to two decimals
    assert run(folder, "python compare.py") == printed["python compare.py"]  # finished runs are not trained again


def test_the_norm_that_is_no_function_of_the_moments_is_right(followed):
    folder, _ = followed
    assert json.loads((folder / "runs" / "l1" / "summary.json").read_text("utf-8"))["status"] == "finished"
    scope = {}
    exec(files_of(PAGE.read_text("utf-8"))["my_l1.py"], scope)

    def layer(weight):
        norm = scope["L1Norm"](3, dtype="float64")
        norm.params["weight"][:] = weight
        return norm

    def backward(dy, x, weight):
        norm = layer(weight)
        norm.forward(x)
        return {"dx": norm.backward(dy), "dweight": norm.grads["weight"]}

    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(4, 3, 5, 7)), "weight": rng.uniform(0.5, 2, 3)}
    check.gradient(lambda x, weight: layer(weight).forward(x), backward, inputs, method="central")


def test_it_runs_in_onnxruntime(followed):
    folder, printed = followed
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    assert "renorm.onnx: ONNX" in printed["python -m minidl.export runs/renorm --onnx renorm.onnx"]
    assert (folder / "renorm.onnx").stat().st_size > 0


def test_a_run_whose_norm_was_changed_is_not_resumed(followed, tmp_path):
    folder, _ = followed
    for name in ("my_norm.py", "my_net.py"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    own = "my_net:MyNet mnist --norm my_norm:BatchRenorm"
    run(tmp_path, f"python -m minidl.train {own} --sample --updates 2 --batch-size 8 --out R")
    run(tmp_path, "python -m minidl.train --resume --out R")
    with (tmp_path / "my_norm.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(
        AssertionError, match=r"R: the file of my_norm:BatchRenorm has changed since the run was started"
    ):
        run(tmp_path, "python -m minidl.train --resume --out R")


def test_what_was_given_from_python_is_asked_for_again(followed):
    folder, _ = followed
    with pytest.raises(RunError, match=r"was trained from Python with model my_net:MyNet; resume it there"):
        Trainer(recipe("lenet", "mnist"), folder / "runs" / "python", resume=True, quiet=True)
