"""A run goes on with a changed file of its norm where that is asked for, and its record says from which update on."""

import hashlib
import json

import numpy as np
import pytest
from own_norm import folder_of_a_norm, rewrite, said, train

import minidl
from minidl.train import Config, Trainer
from minidl.train.__main__ import main
from minidl.train.checkpoint import load

__all__ = ["folder_of_a_norm"]  # a fixture
pytestmark = pytest.mark.usefixtures("no_curves")


def resume(*more):
    return main(["--out", "R", "--resume", "--quiet", *more])


def record(folder):
    return json.loads((folder / "R" / "config.json").read_text("utf-8"))


def sha256(folder):
    return hashlib.sha256((folder / "my_scale.py").read_bytes()).hexdigest()


def remark(folder, text):
    """Change the file, and return the sha256 before and after."""
    before = sha256(folder)
    rewrite(folder, "import numpy as np", f"import numpy as np  # {text}")
    return before, sha256(folder)


def test_a_run_is_extended_with_changed_code_and_then_goes_on_with_that(folder, capsys):
    assert train() == 0
    before, after = remark(folder, "one")
    assert resume("--updates", "4") == 1
    assert "or go on with the new one by --changed-code (from Python: changed_code=True), or" in said(capsys)
    assert resume("--updates", "4", "--changed-code") == 0
    note = {"after_update": 2, "part": "norm", "from": before, "to": after}
    assert record(folder)["code_changes"] == [note]
    assert record(folder)["code"]["norm"]["sha256"] == after
    assert resume("--updates", "5") == 0  # the new code is the run's
    _, last = remark(folder, "two")
    assert resume("--updates", "6", "--changed-code") == 0
    assert record(folder)["code_changes"] == [note, {"after_update": 5, "part": "norm", "from": after, "to": last}]
    assert minidl.load("R").step == 6


def test_changed_code_alone_is_noted_and_the_numbers_are_those_of_one_run(folder, capsys):
    config = Config(
        "tiny", "folder", norm="my_scale:Scale", data_dir="photos", length="4u", batch_size=4, image_size=32
    )
    Trainer(config, "whole", quiet=True).run()
    want = minidl.load("whole").network.state()
    Trainer(config, "R", quiet=True).run(until=2)
    before, after = remark(folder, "one")
    capsys.readouterr()
    trainer = Trainer(config, "R", resume=True, changed_code=True)
    assert "R goes on with the changed code of my_scale:Scale after update 2" in capsys.readouterr().out
    assert record(folder)["code_changes"] == [{"after_update": 2, "part": "norm", "from": before, "to": after}]
    trainer.run()
    again = minidl.load("R").network.state()  # the code of the record is that of now
    assert all(np.array_equal(want[name], again[name]) for name in want)


def test_checkpoints_of_the_code_before_belong_to_the_run(folder, capsys):
    assert train("--updates", "4", "--checkpoint-every", "2") == 0
    remark(folder, "one")
    assert resume("--changed-code") == 0  # finished: nothing is trained
    newest = max((folder / "R" / "checkpoints").iterdir())
    assert load(newest)[1]["step"] == 4
    assert minidl.load("R").step == minidl.load(newest).step == 4
    assert resume("--updates", "5") == 0
    max((folder / "R" / "checkpoints").iterdir()).unlink()
    capsys.readouterr()
    assert resume() == 0
    assert minidl.load("R").step == 5


def test_changed_code_that_the_checkpoints_do_not_fit_is_put_back_and_nothing_is_lost(folder, capsys):
    assert train() == 0
    held = {path: path.read_bytes() for path in (folder / "R").rglob("*") if path.is_file() and path.name != ".lock"}
    init = "super().__init__(num_features, 1e-5, dtype)"
    more = "".join(f"\n        self.{of}['more'] = np.zeros(2, np.float32)" for of in ("params", "grads"))
    rewrite(folder, init, init + more)
    assert resume("--updates", "4", "--changed-code") == 4
    assert capsys.readouterr().err.endswith("; or put the old file of my_scale:Scale back, whose state they hold\n")
    assert held == {path: path.read_bytes() for path in held}
    rewrite(folder, init + more, init)
    assert resume("--updates", "4") == 0


def test_code_that_has_not_changed_leaves_no_note(folder):
    assert train() == 0
    assert resume("--updates", "3", "--changed-code") == 0
    assert "code_changes" not in record(folder)


def test_another_class_is_still_another_run_and_a_new_run_takes_no_such_flag(folder, capsys):
    assert train() == 0
    rewrite(folder, "class Scale(Norm):", "class Other(Norm):\n    pass\n\n\nclass Scale(Norm):")
    capsys.readouterr()
    assert resume("--changed-code", "--norm", "my_scale:Other") == 1
    assert "R holds another run: norm 'my_scale:Scale' there, 'my_scale:Other' asked" in said(capsys)
    assert train("--changed-code", out="S") == 2
    assert "--changed-code goes with --resume: a new run takes the code as it is; leave it out" in said(capsys)


@pytest.mark.parametrize(
    "notes", [5, [5], [{"part": "norm"}], [{"after_update": -1, "part": "norm", "from": "a", "to": "b"}]]
)
def test_a_note_that_no_version_writes_is_damage(folder, capsys, notes):
    assert train() == 0
    (folder / "R" / "config.json").write_text(json.dumps(record(folder) | {"code_changes": notes}))
    assert resume("--updates", "3") == 1
    assert "config.json is damaged (" in said(capsys)
