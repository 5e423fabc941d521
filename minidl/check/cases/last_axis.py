"""The cases of layer and RMS normalization over the last axis, (N, C) to (B, H, T, C)."""

from __future__ import annotations

from minidl.check.case import LAST_AXIS
from minidl.check.cases.table import Table

SHAPES = {"nc": (5, 7), "btc": (3, 4, 7), "bhtc": (2, 3, 4, 5)}
MEMORY = ("fortran", "strided", "batch-innermost", "read-only")


def fill(table: Table) -> None:
    """Add the cases."""
    for layer in LAST_AXIS:
        for name, shape in SHAPES.items():
            table.add(layer, f"shape-{name}", shape, "train eval")
        table.add(layer, "n1", (1, 4, 7))
        table.add(layer, "square", (3, 5, 5))
        table.add(layer, "constant", (4, 3, 5), x="constant=100.1")
        for value in ("1e3", "1e5"):
            table.add(layer, f"mean-{value}", (4, 3, 7), x=f"mean={value}")
        table.add(layer, "std-1e-3", (4, 3, 7), x="std=1e-3", eps=1e-5)
        table.add(layer, "mixed-scale", (4, 3, 7), x="mixed")
        table.add(layer, "outlier", (4, 3, 7), x="outlier=1e4")
        table.add(layer, "nan-one-sample", (4, 3, 7), x="nan")
        table.add(layer, "near-6e4", (3, 4, 7), x="half=59000", dtype="float16")
        table.add(layer, "near-6e4", (5, 9), x="wide=60000", dtype="float16")
        for memory in MEMORY:
            table.add(layer, f"memory-{memory}", (4, 3, 7), "train eval", memory=memory)
        table.add(layer, "memory-broadcast-dy", (4, 3, 7), memory="broadcast-dy")
        table.add(layer, "accumulate", (4, 3, 7), "train train")
        table.add(layer, "two-forwards", (4, 3, 7), "train- train")
