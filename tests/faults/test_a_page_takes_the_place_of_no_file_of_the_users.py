"""Promise 21: what `minidl reproduce` writes takes the place of its own earlier files, and of nobody else's."""

import numpy as np
import pytest

from minidl.outputs import OutputError
from minidl.reproduce import report
from minidl.reproduce.__main__ import main
from minidl.reproduce.csv_output import to_csv
from minidl.reproduce.drawing import panels, to_png
from minidl.reproduce.markdown import as_list

ABOUT = {"command": "python -m minidl.reproduce table1 --sample", "reported by": "minidl"}
ITS_OWN = {
    "a.md": lambda: ("# Table\n\n## Where it comes from\n\n" + as_list(ABOUT) + "\n").encode(),
    "a.csv": lambda: to_csv([{"a": 1}], ABOUT).encode(),
    "a.png": lambda: to_png(panels(1, 1, 1, 1)[0], ["ö"], {**ABOUT, "machine": "ö一"}),
}
MINE = {
    "notes that name the command": b"# Notes\n\nrun python -m minidl.reproduce table1 --sample\n",
    "a list that names the command": b"- command: `python -m minidl.reproduce table1`\n",
    "nothing": b"",
    "a picture": b"\x89PNG\r\n\x1a\n" + np.arange(256, dtype=np.uint8).tobytes(),
}
COMMANDS = {
    "overhead": (["overhead"], ["overhead.md", "overhead.csv"]),
    "a table": (
        ["table1", "--sample", "--scale", "0.1"],
        [f"table1-sample-scale0.1{end}" for end in (".md", ".csv", "-runs.csv", ".png")],
    ),
    "a figure": (
        ["figure2", "--sample"],
        [f"figure2-sample{end}" for end in (".md", "-images.csv", "-mn2-images.png")],
    ),
    "a figure of a VGG13": (
        ["figure2", "--model", "vgg13", "--sample"],
        [f"figure2-vgg13-cifar10-sample{end}" for end in (".md", ".csv", "-images.csv", "-images.png")],
    ),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_file_of_the_users_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys, what):
    monkeypatch.chdir(tmp_path)
    arguments, names = COMMANDS[what]
    monkeypatch.setattr("minidl.reproduce.command._train", lambda *args: pytest.fail("it trained"))
    monkeypatch.setattr("minidl.reproduce.overhead.measure", lambda *args: pytest.fail("it measured"))
    (tmp_path / "out").mkdir()
    for name in names:
        path = tmp_path / "out" / name
        path.write_bytes(b"mine")
        assert main([*arguments, "--out", "out"]) == 2
        assert capsys.readouterr().err == (
            f"minidl.reproduce: --out out has a {name} that this command did not write; move it, or give another "
            "folder\n"
        )
        assert [each.name for each in path.parent.iterdir()] == [name]
        assert path.read_bytes() == b"mine"
        path.unlink()


@pytest.mark.parametrize("name", ITS_OWN)
def test_its_own_are_written_anew_and_others_stay_with_all_that_was_to_be_written(tmp_path, name):
    files = {"b.md": b"new", name: b"new"}
    (tmp_path / name).write_bytes(ITS_OWN[name]())
    (tmp_path / "notes.md").write_bytes(b"mine")
    report.write_files(tmp_path, files)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {**files, "notes.md": b"mine"}
    (tmp_path / "b.md").unlink()
    for mine in MINE.values():
        (tmp_path / name).write_bytes(mine)
        with pytest.raises(OutputError, match=f"has a {name} that this command did not write; move it"):
            report.write_files(tmp_path, files)
        assert (tmp_path / name).read_bytes() == mine
        assert not (tmp_path / "b.md").exists()


def test_a_link_and_a_folder_of_the_users_stay(tmp_path):
    (tmp_path / "link.md").symlink_to("gone")
    (tmp_path / "folder.csv").mkdir()
    for name in ("link.md", "folder.csv"):
        with pytest.raises(OutputError, match="did not write"):
            report.write_files(tmp_path, {name: b"new"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "link.md"]
