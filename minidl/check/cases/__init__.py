"""The cases of every layer, as they are defined: no expected values yet."""

from __future__ import annotations

from collections.abc import Iterator

from minidl.check.case import Case
from minidl.check.cases import batch, groups, last_axis, layers, modes
from minidl.check.cases.table import Table

TABLES = (batch, groups, modes, layers, last_axis)


def all_cases() -> list[Case]:
    """Every case of every layer, in order."""
    table = Table()
    for module in TABLES:
        module.fill(table)
    return table.cases


def cases_of(layer: str) -> Iterator[Case]:
    """The cases of a layer."""
    return (case for case in all_cases() if case.layer == layer)


__all__ = ["TABLES", "Table", "all_cases", "cases_of"]
