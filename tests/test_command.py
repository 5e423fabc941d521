"""The command `minidl` hands over to the package's commands, and says what there is."""

import subprocess
import sys
from pathlib import Path

import pytest

import minidl
from minidl.__main__ import COMMANDS, main


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
