"""The cases of batch normalization."""

from __future__ import annotations

from minidl.check.cases.table import SHAPES, Table

MEMORY = ("fortran", "strided", "batch-innermost", "nhwc-view", "broadcast-dy", "read-only")


def fill(table: Table) -> None:
    """Add the cases."""
    layer = "batch_norm"
    for name, shape in SHAPES.items():
        table.add(layer, f"shape-{name}", shape, "train eval")
    table.add(layer, "n1", (1, 3, 4, 5), "train eval")
    table.add(layer, "n2-1x1", (2, 3, 1, 1), "train eval")
    table.add(layer, "single-value", (1, 3, 1, 1), result="declared")
    table.add(layer, "single-value", (1, 5), result="declared")
    table.add(layer, "c1", (4, 1, 3, 5), "train eval")
    for value in ("0", "100.1", "1000000.1"):
        table.add(layer, "constant", x=f"constant={value}")
    for value in ("10", "1e3", "1e5"):
        table.add(layer, f"mean-{value}", x=f"mean={value}")
    table.add(layer, "std-1e-3", x="std=1e-3", eps=1e-5)
    table.add(layer, "std-1e-8", x="std=1e-8", eps=1e-5)
    table.add(layer, "mixed-scale", x="mixed")
    table.add(layer, "outlier", x="outlier=1e4")
    table.add(layer, "subnormal", x="subnormal")
    table.add(layer, "nan-one-sample", x="nan")
    table.add(layer, "nan-one-sample", (5, 3, 4), "train eval-", x="nan")
    table.add(layer, "near-6e4", x="half=59000", dtype="float16")
    table.add(layer, "near-6e4", x="wide=60000", dtype="float16", shape=(5, 3, 7))
    table.add(layer, "train3-eval", steps="train train train eval")
    table.add(layer, "eval-fresh", steps="eval eval", state={})
    table.add(layer, "eval-fresh", (5, 4), "eval train- eval-", state={})
    table.add(layer, "eval-twice", steps="eval- eval-")
    table.add(layer, "eval-backward", steps="eval")
    table.add(layer, "train-eval-train", steps="train- eval- train")
    table.add(layer, "momentum-0", (5, 4), "train eval", momentum=0.0)
    for momentum in (0.0, 1.0, 0.1):
        table.add(layer, f"momentum-{momentum:g}", steps="train- train- eval-", momentum=momentum)
    table.add(layer, "two-forwards", steps="train- train")
    table.add(layer, "two-forwards", steps="train- eval")
    table.add(layer, "reload", steps="train- train- reload train- eval")
    table.add(layer, "reload", steps="train reload eval-")
    table.add(layer, "accumulate", steps="train train")
    table.add(layer, "accumulate", steps="train eval train")
    for memory in MEMORY:
        table.add(layer, f"memory-{memory}", (4, 3, 2, 5), "train eval", memory=memory)
    table.add(layer, "shards", (8, 3, 2, 3), "train eval-", shards=(3, 5))
    table.add(layer, "shards", (8, 4), "train eval-", shards=(6, 2))
