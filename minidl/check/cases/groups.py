"""The cases of instance, layer and group normalization."""

from __future__ import annotations

from typing import Any

from minidl.check.cases.table import SHAPES, Table


def fill(table: Table) -> None:
    """Add the cases."""
    for layer in ("instance_norm", "layer_norm", "group_norm"):
        wide: dict[str, Any] = {"num_groups": 3} if layer == "group_norm" else {}
        shapes = {"nc": (5, 6), "ncl": (5, 6, 4), "nchw": (3, 6, 4, 5)} if wide else dict(SHAPES)
        if layer == "instance_norm":
            shapes.pop("nc")
        common = (4, 6, 2, 5) if wide else (4, 3, 2, 5)
        for name, shape in shapes.items():
            table.add(layer, f"shape-{name}", shape, "train eval", **wide)
        table.add(layer, "n1", (1, 6, 3, 5) if wide else (1, 4, 3, 5), **wide)
        for value in ("1e3", "1e5"):
            table.add(layer, f"mean-{value}", common, x=f"mean={value}", **wide)
        table.add(layer, "std-1e-3", common, x="std=1e-3", eps=1e-5, **wide)
        table.add(layer, "nan-one-sample", common, x="nan", **wide)
        table.add(layer, "near-6e4", common, x="half=59000", dtype="float16", **wide)
        for memory in ("nhwc-view", "batch-innermost", "broadcast-dy"):
            table.add(layer, f"memory-{memory}", common, memory=memory, **wide)
        table.add(layer, "accumulate", common, "train train", **wide)
        table.add(layer, "two-forwards", common, "train- train", **wide)
    table.add("instance_norm", "constant", x="constant=100.1")
    table.add("instance_norm", "near-6e4", (3, 4, 7), x="wide=60000", dtype="float16")
    table.add("layer_norm", "near-6e4", (3, 9), x="wide=60000", dtype="float16")
    table.add("layer_norm", "outlier", x="outlier=1e4")
    table.add("layer_norm", "c1", (4, 1, 3, 5))
    table.add("layer_norm", "mixed-scale", x="mixed")
    table.add("group_norm", "one-group", (3, 4, 2, 5), num_groups=1)
    table.add("group_norm", "one-channel-a-group", (3, 4, 2, 5), num_groups=4)
    table.add("group_norm", "two-groups", (3, 8, 2, 3), num_groups=2)
    table.add("group_norm", "indivisible", (3, 5, 2, 4), num_groups=2, result="error")
    table.add("group_norm", "indivisible", (3, 7), num_groups=3, result="error")
    table.add("group_norm", "mixed-scale", (3, 6, 2, 5), x="mixed", num_groups=2)
    table.add("group_norm", "near-6e4", (3, 6, 7), x="wide=60000", dtype="float16", num_groups=2)
