"""sys.exit in code of one's own is no way for a command to be done: one line, and a status that is not 0."""

import re
from functools import partial

import pytest
from own_norm import folder_of_a_norm, said, train

from minidl import command_line
from minidl.evaluate.__main__ import main as evaluate
from minidl.export.__main__ import main as export
from minidl.predict.__main__ import main as predict
from minidl.train import Config, Trainer
from minidl.train.late import LateError

__all__ = ["folder_of_a_norm"]  # a fixture
pytestmark = pytest.mark.usefixtures("no_curves")

NORM = """import os
import sys

from minidl import BatchNorm


class Scale(BatchNorm):
    def forward(self, x):
        y = super().forward(x)
        self.calls = vars(self).get("calls", 0) + self.training
        if eval(os.environ.get("LEAVE", "False")):
            sys.exit(0)
        return y

    def backward(self, dy):
        if eval(os.environ.get("LEAVE_BACK", "False")):
            sys.exit(0)
        return super().backward(dy)

    def to_onnx(self, graph, x):
        sys.exit(0)
"""


@pytest.fixture(autouse=True)
def norm(folder):
    (folder / "my_scale.py").write_text(NORM)


@pytest.mark.parametrize(
    ("name", "leave", "when", "line"),
    [
        ("LEAVE", "self.calls == 5 and self.training", "update 5", 12),
        ("LEAVE", "self.calls == 9 and not self.training", "the evaluation after update 9", 12),
        ("LEAVE_BACK", "self.calls == 5", "update 5", 17),
    ],
)
def test_a_run_that_ones_own_code_leaves_is_not_done(monkeypatch, capsys, name, leave, when, line):
    monkeypatch.setenv(name, leave)
    assert train("--updates", "9", "--checkpoint-every", "2") == 1
    assert said(capsys) == (
        f"minidl.train: --norm my_scale:Scale: in {when}: SystemExit: 0 (my_scale.py, line {line}), in code of your "
        "own; mend it and go on by --out R --resume --changed-code; what was saved is whole\n"
    )


def test_from_python_it_is_an_error_but_a_callback_may_leave(monkeypatch):
    config = Config(
        "tiny", "folder", norm="my_scale:Scale", data_dir="photos", length="9u", batch_size=4, image_size=32
    )
    with pytest.raises(SystemExit):
        Trainer(config, quiet=True).run(on_evaluation=lambda evaluation: exit(0))
    monkeypatch.setenv("LEAVE", "self.calls > 6")
    with pytest.raises(LateError, match=r"in update 7: SystemExit: 0 \(my_scale\.py, line 12\), in code"):
        Trainer(config, quiet=True).run()


def test_a_trained_network_that_leaves_is_one_line_of_each_command(monkeypatch, capsys):
    assert train("--updates", "1") == 0
    monkeypatch.setenv("LEAVE", "len(x) > 2")  # more than minidl.load tries
    capsys.readouterr()
    for command, arguments in ((evaluate, ["R"]), (predict, ["R", "photos"])):
        assert command(arguments) == 1
        assert re.search(r"SystemExit: 0 \(my_scale.py, line 12\); mend it\n$", said(capsys))


def test_to_onnx_that_leaves_is_one_line(capsys):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minidl[onnx]'")
    assert train("--updates", "1") == 0
    capsys.readouterr()
    assert export(["R", "--onnx", "x.onnx"]) == 1
    assert "to_onnx failed: SystemExit: 0 (my_scale.py, line 21); mend it" in said(capsys)


def test_leaving_elsewhere_in_a_command_is_one_line_and_a_wrong_argument_has_its_status(capsys):
    def leave():
        raise SystemExit(0)

    def status(run):
        def complain(status, line):
            return command_line.complain("minidl.x", status, line)

        return command_line.exit_status(complain, run, files="", memory="", interrupted="")

    assert status(leave) == 1
    assert re.fullmatch(
        r"minidl\.x: SystemExit: 0 \(test_leaving_in_own_code\.py, line \d+\), in code of your own; mend it\n",
        said(capsys),
    )
    parser = command_line.Parser(prog="python -m minidl.x")
    with pytest.raises(SystemExit, match=r"^2$"):
        status(partial(parser.error, "wrong"))
