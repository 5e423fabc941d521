"""What a mistake on the command line, or a damaged file, needs: one line that names the way out."""

import sys

import pytest
from tiny_run import make_tiny, tiny_config, tiny_task

import minidl
from minidl.check.__main__ import main as check
from minidl.extras import MissingLibraryError
from minidl.models import MODELS
from minidl.predict.__main__ import main as predict
from minidl.train import RunError, Trainer
from minidl.train.__main__ import _spans as spans
from minidl.train.__main__ import main as train

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_decimal_comma_in_the_drops_is_refused_and_a_list_is_not(capsys):
    with pytest.raises(SystemExit, match="2"):
        train(["lenet", "mnist", "--sample", "--lr-drops", "2,5M"])
    assert "write a decimal point, 2.5M" in capsys.readouterr().err
    assert spans("2.5M,3M") == ("2.5M", "3M")


def test_a_drop_beyond_the_end_is_said(capsys):
    for drops, said in ((("9u",), True), (("2u", "3u"), False)):
        Trainer(tiny_config(lr_drops=drops, length="3u"), quiet=True, task=tiny_task())
        assert ("the drop after update 9 lies beyond the end of the run, 3" in capsys.readouterr().err) is said


def test_a_damaged_record_names_the_checkpoint_that_can_be_used_alone(folder):
    Trainer(tiny_config(length="3u"), "run", quiet=True, task=tiny_task()).run()
    (folder / "run" / "config.json").write_text("{")
    with pytest.raises(
        RunError, match=r"without it run/checkpoints/step-\d+\.safetensors can be used alone, and trained"
    ):
        minidl.load("run")


def test_a_home_folder_of_nobody_is_refused(capsys):
    for option in ("--json", "--junit", "--baseline", "--vectors"):
        with pytest.raises(SystemExit, match="2"):
            check(["run", "my:Adapter", option, "~nosuchuser/x"])
        assert "no home folder of that name" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        predict(["run", "~nosuchuser/1.jpg"])
    assert "no home folder of that name" in capsys.readouterr().err


def test_load_without_safetensors_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingLibraryError, match=r"needs safetensors, which is not installed; run: pip install"):
        minidl.load("run")
