"""Modules in the current folder, which `python -m` finds and an installed command does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importable(first: bool) -> Iterator[None]:
    """Let modules in the current folder be imported within the ``with`` block.

    Parameters
    ----------
    first : bool
        Before others of the same name, as `python -m` does; else only where there is no other.
    """
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0 if first else len(sys.path), here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
