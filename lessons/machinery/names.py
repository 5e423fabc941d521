"""The global names of a cell: those that it binds, and those that it takes from other cells."""

from __future__ import annotations

import symtable


def names_of(text: str) -> tuple[set[str], set[str]]:
    """Return the global names that a cell binds, and those that it takes from other cells."""
    top = symtable.symtable(text, "cell", "exec")
    bound = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    bound |= {one.get_name() for one in top.get_children()}
    free = {one.get_name() for one in top.get_symbols() if one.is_referenced()}
    waiting = top.get_children()
    while waiting:
        table = waiting.pop()
        free |= {one.get_name() for one in table.get_symbols() if one.is_global()}
        waiting += table.get_children()
    return bound, free - bound
