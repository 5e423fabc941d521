"""The command `minidl` hands over to the package's commands, and says what there is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minidl
from minidl import log
from minidl.__main__ import COMMANDS, main
from minidl.command_line import say


@pytest.mark.parametrize("asked", [[], ["--help"], ["-h"]])
def test_without_a_command_it_lists_the_commands(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_every_package_with_a_command_is_listed() -> None:
    found = {path.parent.name for path in Path(minidl.__file__).parent.glob("*/__main__.py")}
    assert found == set(COMMANDS)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"minidl {minidl.__version__}\n"


def test_an_unknown_command_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == (f"minidl: there is no command 'trian'; the commands are {', '.join(COMMANDS)}\n")


def test_a_command_gets_its_arguments_and_gives_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    assert "models:" in capsys.readouterr().out
    assert main(["train", "lenet", "multitask", "--modes", "0", "--sample"]) == 2


def test_python_m_minidl_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "minidl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"minidl {minidl.__version__}\n"


def test_bash_completes_a_command_then_its_options_and_their_choices(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    bash = shutil.which("bash") or pytest.skip("needs bash")
    assert main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out

    def completed(*words: str) -> list[str]:
        typed = " ".join(["minidl", *words])
        asked = f'COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _shtab_minidl; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run([bash], input=f"{script}\n{asked}\n", capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("tr") == ["train"]
    assert "--norm" in completed("train", "--no")
    assert completed("bench", "--backend", "num") == ["numpy", "numba"]


def test_a_shell_that_is_unknown_or_a_library_that_is_missing_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--print-completion", "fish"]) == 2
    assert capsys.readouterr().err == "minidl: --print-completion takes one of bash, zsh, tcsh\n"
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 1
    assert "pip install 'minidl[completion]'" in capsys.readouterr().err


def test_what_would_command_a_terminal_is_printed_as_an_escape(capsys):
    say("cat\x1b[2J\x07 größe\tdog")
    assert capsys.readouterr().out == "cat\\x1b[2J\\x07 größe\tdog\n"
    say("cat\u202egod\u2028\x85\nnext")
    assert capsys.readouterr().out == "cat\\u202egod\\u2028\\x85\nnext\n"


def test_what_is_said_is_one_line_that_commands_no_terminal(capsys):
    log.warn("minidl.train", "a\n/b.png\x1b]0;t\x07\u202egnp.c: skipped")
    log.inform("minidl", "größe\rof \x9b2J")
    shown = capsys.readouterr()
    assert shown.err == "minidl.train: a\\n/b.png\\x1b]0;t\\x07\\u202egnp.c: skipped\n"
    assert shown.out == "größe\\x0dof \\x9b2J\n"


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_current_folder_that_was_deleted_is_one_line_or_no_matter(command: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    arguments = {
        "train": ["lenet", "multitask", "--sample", "--norm", "my_norm:Mine", "--out", "a"],
        "predict": ["run", "a.png"],
    }

    def minidl_in(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
        """Run the command in a folder that is deleted before it begins."""
        folder.mkdir()
        code = "import os, sys; os.rmdir(os.getcwd()); from minidl.__main__ import main; sys.exit(main(sys.argv[1:]))"
        path = str(Path(minidl.__file__).parents[1])
        return subprocess.run(
            [sys.executable, "-c", code, *given], cwd=folder, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    done = minidl_in(gone, command, *arguments[command])
    assert done.returncode in (1, 2), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "the current folder is gone; cd to one that exists" in done.stderr
    assert minidl_in(gone, command, "--help").returncode == 0
