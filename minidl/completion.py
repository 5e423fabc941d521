"""What a shell needs to complete minidl's commands and options: `minidl --print-completion bash`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module

from minidl import __version__
from minidl.extras import MissingLibraryError

SHELLS = ("bash", "zsh", "tcsh")


def completion(shell: str, commands: Mapping[str, str]) -> str:
    """Return the shell's script, which shtab writes from the parsers of the commands.

    Parameters
    ----------
    shell : str
        One of `SHELLS`.
    commands : {name: help}

    Raises
    ------
    MissingLibraryError
        If shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        cure = "pip install 'minidl[completion]'"
        raise MissingLibraryError(f"--print-completion needs shtab, which is not installed; run: {cure}") from error
    parser = argparse.ArgumentParser(prog="minidl")
    parser.add_argument("--version", action="version", version=__version__, help="print the version")
    parser.add_argument("--print-completion", choices=SHELLS, help="print a shell's script for completion")
    subparsers = parser.add_subparsers()
    for name, text in commands.items():
        own: argparse.ArgumentParser = import_module(f"minidl.{name}.__main__").make_parser()
        subparsers.add_parser(name, parents=[own], add_help=False, help=text)
    return str(shtab.complete(parser, shell))
