"""Modules in the current folder, which `python -m` finds and an installed command does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

GONE = "the current folder is gone; cd to one that exists"


def is_gone() -> bool:
    """Whether the current folder was deleted: nothing is found in it, and no relative path means anything."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


@contextmanager
def importable(first: bool) -> Iterator[None]:
    """Let modules in the current folder be imported within the ``with`` block.

    Parameters
    ----------
    first : bool
        Before others of the same name, as `python -m` does; else only where there is no other.
    """
    here = None if is_gone() else os.getcwd()
    if here is None or here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0 if first else len(sys.path), here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
