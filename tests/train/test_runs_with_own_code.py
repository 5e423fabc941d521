"""A run with a norm of one's own that goes wrong, or whose file has changed since: one line, and nothing is lost."""

import numpy as np
import pytest
from own_norm import RUN, folder_of_a_norm, forget, rewrite, said, train

import minidl
from minidl.evaluate.__main__ import main as evaluate
from minidl.export.__main__ import main as export
from minidl.predict.__main__ import main as predict
from minidl.train.__main__ import main

__all__ = ["folder_of_a_norm"]  # a fixture
pytestmark = pytest.mark.usefixtures("no_curves")


def test_settings_of_norms_that_ones_own_is_not_made_with_are_said_to_be_ignored(folder, capsys):
    arguments = ["--modes", "7", "--groups", "3", "--norm-momentum", "0.3", "--per-mode-affine", "--updates", "1"]
    assert train(*arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in lines] == [
        f" {flag} is ignored" for flag in ("--norm-momentum 0.3", "--modes 7", "--groups 3", "--per-mode-affine")
    ]
    assert "my_scale:Scale has no use for it, mn and mgn and one of one's own that is made with num_modes" in lines[1]
    rewrite(folder, "num_features, dtype", "num_features, num_modes, dtype")
    assert train("--modes", "7", "--updates", "1", out="S") == 0
    assert capsys.readouterr().err == ""


def test_one_number_of_modes_for_each_norm_is_passed_on_or_said_to_be_ignored(folder, capsys):
    assert train("--modes", "7,3", "--updates", "1") == 0
    assert "--modes 7,3 is ignored: --norm my_scale:Scale has no use for it, mn and mgn and one" in said(capsys)
    assert train("--modes", "7,3", "--updates", "1", norm="bn", out="B") == 0
    assert "--modes 7,3 is ignored: --norm bn has no use for it, mn and mgn have" in said(capsys)
    rewrite(folder, "num_features, dtype", "num_features, num_modes, dtype")
    rewrite(folder, "1e-5, dtype)", "1e-5, dtype); self.k = num_modes")
    assert train("--modes", "7,3", "--updates", "1", out="S") == 2
    assert "--modes must be one K or 1, one for each norm with modes, got 2; give as many" in said(capsys)
    lenet = ["lenet", *RUN[1:], "--norm", "my_scale:Scale", "--out", "S", "--updates", "1"]
    assert main([*lenet, "--modes", "7,3"]) == 0
    layers = minidl.load("S").network.named_layers()
    assert [vars(layer)["k"] for _, layer in layers if type(layer).__name__ == "Scale"] == [7, 3]
    assert capsys.readouterr().err == ""


def test_a_run_that_diverges_with_ones_own_norm_is_sent_to_it_as_well(folder, capsys):
    rewrite(folder, "0 * v", "(np.inf if np.any(weight != 1) else 0) * v")  # from the first update on
    assert train("--updates", "4") == 3
    assert "; lower --lr, or look for a mistake in --norm my_scale:Scale, and start anew" in said(capsys)
    assert train("--updates", "9", "--checkpoint-every", "1", out="T") == 3
    assert " --from T starts it with the weights that were saved\n" in said(capsys)
    assert main([*RUN, "--norm", "bn", "--out", "S", "--updates", "4", "--lr", "1e300"]) == 3
    assert "; lower --lr and start anew" in said(capsys)


def test_a_file_that_is_gone_has_one_status_whichever_command_wants_it(folder, capsys):
    assert train() == 0
    (folder / "my_scale.py").rename(folder / "gone.py")
    forget()
    capsys.readouterr()
    for command, *arguments in (
        (main, "--out", "R", "--resume", "--quiet"),
        (evaluate, "R"),
        (predict, "R", "photos"),
        (export, "R", "--torch", "x.pt"),
    ):
        assert command(arguments) == 1
        err = said(capsys)
        assert ": R: " in err
        assert "norm my_scale:Scale: No module named 'my_scale'; start in the folder of my_scale.py, or" in err
    assert train(out="S") == 2  # here it is the argument that is wrong


def test_an_error_of_minidl_in_a_later_update_is_one_line_with_the_class(folder, capsys):
    rewrite(folder, "return s, s *", "return (s if np.all(weight == 1) else s[0]), s *")
    assert train() == 1
    err = said(capsys)
    assert "s and u must be (4, 5), got (5,) and (4, 5) (Scale.small, my_scale.py, line 10), in code of your own" in err


def test_trying_the_norm_out_changes_no_number(folder, monkeypatch):
    from minidl.train import build

    assert train(out="tried") == 0
    monkeypatch.setattr(build, "try_out", lambda *_: None)
    assert train(out="not_tried") == 0
    one, other = (minidl.load(name).network.state() for name in ("tried", "not_tried"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


LATE = """
    calls = 0

    def late(self):
        Scale.calls += 1
        if Scale.calls > 15:
            raise KeyError("x")
"""


def test_an_error_that_comes_later_is_one_line_and_the_checkpoints_stay(folder, capsys):
    rewrite(
        folder, "        weight, bias = self._affine()", "        weight, bias = self._affine()\n        self.late()"
    )
    (folder / "my_scale.py").write_text((folder / "my_scale.py").read_text("utf-8") + LATE)
    assert train("--updates", "40", "--checkpoint-every", "2") == 1
    assert (
        "minidl.train: --norm my_scale:Scale: in update 8: KeyError: 'x' (my_scale.py, line 26), in code of your own; "
        "mend it and go on by --out R --resume --changed-code; what was saved is whole\n" in said(capsys)
    )
    assert list((folder / "R" / "checkpoints").iterdir())


def test_a_run_that_an_error_ended_goes_on_with_the_mended_file_as_the_line_says(folder, capsys):
    first = "        weight, bias = self._affine()"
    rewrite(folder, first, f"{first}\n        self.late()")
    (folder / "my_scale.py").write_text((folder / "my_scale.py").read_text("utf-8") + LATE)
    assert train("--updates", "12", "--checkpoint-every", "2") == 1
    cure = said(capsys).split("mend it and go on by ")[1].split(";")[0]
    rewrite(folder, "Scale.calls > 15", "Scale.calls < 0")
    assert main([*cure.split(), "--quiet"]) == 0
    assert minidl.load("R").step == 12


def test_a_run_whose_norm_has_changed_says_so_and_is_used_where_that_is_asked_for(folder, capsys):
    assert train() == 0
    before = {path: path.read_bytes() for path in (folder / "R").rglob("*") if path.is_file()}
    rewrite(folder, "import numpy as np\n", "import numpy as np  # a remark\n")
    capsys.readouterr()
    assert main(["--out", "R", "--resume", "--updates", "4", "--quiet"]) == 1
    assert "R: the file of my_scale:Scale has changed since the run was started; put the old file back, or" in said(
        capsys
    )
    changed = (
        "has changed since the run was trained, so the network may compute something else; put the old file back, or"
    )
    image = "photos/bee/0.png"
    for command in ([evaluate, "R", "--quiet"], [predict, "R", image], [export, "R", "--safetensors", "x.safetensors"]):
        assert command[0](command[1:]) == 1
        assert changed in said(capsys)
        assert command[0]([*command[1:], "--changed-code"]) == 0
        capsys.readouterr()
    assert {path: path.read_bytes() for path in before} == before
    assert train("--from", "R", "--updates", "1", out="S") == 0


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(capsys):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minidl[onnx]'")
    assert main([*RUN, "--norm", "bn", "--updates", "1", "--out", "R"]) == 0
    capsys.readouterr()
    assert export(["R", "--onnx", "none/x.onnx"]) == 1
    assert said(capsys).startswith("minidl.export: none/x.onnx: No such file or")


def test_predict_answers_the_images_that_are_there_and_leaves_hidden_files_alone(folder, capsys):
    assert main([*RUN, "--norm", "bn", "--updates", "1", "--out", "R"]) == 0
    (folder / "photos" / "bee" / "._0.png").write_bytes(b"\0\5\x16\7")
    capsys.readouterr()
    assert predict(["R", "photos/bee"]) == 0
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (8, "")
    assert predict(["R", "gone.jpg", "photos/bee/0.png"]) == 4
    out, err = capsys.readouterr()
    assert err == "minidl.predict: gone.jpg: no such file; correct its name\n"
    assert out.startswith("photos/bee/0.png: ")


def test_another_norm_is_named_by_its_setting_when_a_run_is_resumed(folder, capsys):
    assert train() == 0
    capsys.readouterr()
    assert main(["--out", "R", "--resume", "--norm", "bn", "--quiet"]) == 1
    err = said(capsys)
    assert "R holds another run: norm 'my_scale:Scale' there, 'bn' asked" in err
    assert "norm_name" not in err


def test_a_class_that_was_renamed_since_says_that_the_file_has_changed(folder, capsys):
    assert train() == 0
    rewrite(folder, "class Scale", "class Scales")
    capsys.readouterr()
    for command in ([main, "--out", "R", "--resume", "--quiet"], [evaluate, "R"], [predict, "R", "photos"]):
        assert command[0](command[1:]) == 1
        assert "my_scale.py has changed since the run was started: put the old file back" in said(capsys)


def test_a_run_without_its_config_is_told_one_way_out(folder, capsys):
    assert main([*RUN, "--norm", "bn", "--updates", "2", "--out", "R"]) == 0
    (folder / "R" / "config.json").unlink()
    capsys.readouterr()
    assert main(["--out", "R", "--resume", "--quiet"]) == 1
    err = said(capsys)
    assert "R holds no run to resume: its config.json is gone; put it back, or start a new run with another" in err
    (kept,) = (folder / "R" / "checkpoints").iterdir()
    assert f"--from {kept.relative_to(folder)}" in err
    assert main([*RUN, "--norm", "bn", "--updates", "2", "--out", "R"]) == 1
    assert "remove it, or give another --out; or put config.json back, and --resume goes on" in said(capsys)
    assert evaluate(["R"]) == 1
    assert f"give {kept.relative_to(folder)}, which can be used alone" in said(capsys)
    assert main([*RUN, "--norm", "bn", "--updates", "2", "--out", "S", "--from", str(kept)]) == 0
