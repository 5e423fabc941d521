"""The cases of mode and mode-group normalization."""

from __future__ import annotations

import numpy as np

from minidl.check.cases.table import SHAPES, Table

UNCLAMPED = np.array([[1000.0, 800.0, -500.0], [-700.0, 900.0, 600.0]])


def fill(table: Table) -> None:
    """Add the cases."""
    fill_mode(table)
    fill_mode_group(table)


def opposed(gap: float, channels: int, modes: int = 2) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Gate weights that put a logit gap of about ``gap`` between the modes of opposite samples."""
    weight = np.zeros((modes, channels))
    weight[0, 0], weight[1, 0] = gap / 2, -gap / 2
    return weight


def fill_mode(table: Table) -> None:
    """Mode normalization."""
    layer = "mode_norm"
    for name, shape in SHAPES.items():
        table.add(layer, f"shape-{name}", shape, "train eval", num_modes=2)
    table.add(layer, "n1", (1, 3, 4, 5), "train eval", num_modes=2)
    table.add(layer, "n2-1x1", (2, 3, 1, 1), "train eval", num_modes=2)
    table.add(layer, "single-value", (1, 3, 1, 1), num_modes=2, result="declared")
    table.add(layer, "c1", (4, 1, 3, 5), "train eval", num_modes=2)
    for modes in (1, 3, 8):
        table.add(layer, f"modes-{modes}", steps="train eval", num_modes=modes)
    table.add(layer, "modes-1", (6, 3), "train eval", num_modes=1)
    table.add(layer, "more-modes-than-samples", (3, 4, 2, 3), "train eval", num_modes=5)
    zero = np.zeros((3, 3))
    table.add(layer, "zero-psi", params={"gate.weight": zero}, steps="train eval", num_modes=3)
    for gap in (50, 105, 800):
        table.add(
            layer, f"gap-{gap}", steps="train eval", x="clusters", params={"gate.weight": opposed(gap, 3)}, num_modes=2
        )
    for gap in (105, 800):
        weight, bias = 0.1 * opposed(1, 3), [0.0, -gap]
        table.add(
            layer, "empty-mode", steps="train eval", params={"gate.weight": weight, "gate.bias": bias}, num_modes=2
        )
    owner = {"gate.weight": opposed(60, 3), "gate.bias": [0.2, -0.1]}
    table.add(layer, "owner", x="owner", params=owner, num_modes=2)
    table.add(layer, "owner", (5, 3), x="owner", params=owner, num_modes=2)
    tied = np.tile([[0.5, -0.3, 0.8]], (3, 1))
    table.add(layer, "ties", params={"gate.weight": tied, "gate.bias": [0.3] * 3}, steps="train eval", num_modes=3)
    below = {"running_mean": UNCLAMPED, "running_mean_square": UNCLAMPED**2 - 2.0}
    near = {"gate.weight": 1e-3 * opposed(1, 3)}
    table.add(layer, "negative-variance", steps="eval", x="mean=900", state=below, params=near, num_modes=2)
    table.add(layer, "negative-variance", (5, 3), "eval", x="mean=900", state=below, params=near, num_modes=2)
    table.add(layer, "per-mode-affine", (4, 3, 2, 5), "train eval", num_modes=2, per_mode_affine=True)
    table.add(layer, "per-mode-affine", (6, 4), "train eval", num_modes=3, per_mode_affine=True)
    table.add(layer, "constant", x="constant=100.1", num_modes=2)
    for value in ("10", "1e3", "1e5"):
        far = {"gate.weight": opposed(1.5 / max(float(value), 100), 3) + opposed(0.7 / float(value), 3)[::-1, ::-1]}
        table.add(layer, f"mean-{value}", x=f"mean={value}", params=far, num_modes=2)
    table.add(layer, "std-1e-3", x="std=1e-3", eps=1e-5, num_modes=2)
    table.add(layer, "mixed-scale", x="mixed", num_modes=2)
    table.add(layer, "outlier", x="outlier=1e3", num_modes=2)
    table.add(layer, "nan-one-sample", x="nan", num_modes=2)
    table.add(layer, "nan-one-sample", (5, 3, 4), "train eval-", x="nan", num_modes=3)
    table.add(layer, "train3-eval", steps="train train train eval", num_modes=2)
    table.add(layer, "eval-fresh", steps="eval eval", state={}, num_modes=2)
    table.add(layer, "eval-fresh", (5, 4), steps="eval", state={}, num_modes=3)
    table.add(layer, "eval-twice", steps="eval- eval-", num_modes=2)
    table.add(layer, "train-eval-train", steps="train- eval- train", num_modes=2)
    for momentum in (1.0, 0.1):
        table.add(layer, f"momentum-{momentum:g}", steps="train- train- eval-", momentum=momentum, num_modes=2)
    table.add(layer, "two-forwards", steps="train- train", num_modes=2)
    table.add(layer, "reload", steps="train- train- reload train- eval", num_modes=2)
    table.add(layer, "reload", steps="train reload eval-", num_modes=2)
    table.add(layer, "accumulate", steps="train train", num_modes=2)
    for memory in ("batch-innermost", "nhwc-view", "broadcast-dy", "strided"):
        table.add(layer, f"memory-{memory}", (4, 3, 2, 5), "train eval", memory=memory, num_modes=2)
    table.add(layer, "shards", (8, 3, 2, 3), "train eval-", shards=(3, 5), num_modes=2)
    table.add(layer, "shards", (8, 4), "train eval-", shards=(6, 2), num_modes=2)


def fill_mode_group(table: Table) -> None:
    """Mode group normalization."""
    layer = "mode_group_norm"
    for name, shape in SHAPES.items():
        table.add(layer, f"shape-{name}", shape, "train eval", num_modes=2)
    table.add(layer, "n1", (1, 4, 3, 5), num_modes=2)
    table.add(layer, "c1", (4, 1, 3, 5), num_modes=2)
    for modes in (1, 3, 8):
        table.add(layer, f"modes-{modes}", (3, 4, 2, 5), num_modes=modes)
    table.add(layer, "zero-psi", (3, 4, 2, 5), params={"gate.weight": np.zeros((3, 1))}, num_modes=3)
    for gap in (50, 105, 800):
        weight = [[gap / 2], [-gap / 2]]
        table.add(layer, f"gap-{gap}", (3, 4, 2, 5), x="split", params={"gate.weight": weight}, num_modes=2)
    for gap in (105, 800):
        empty = {"gate.weight": [[0.3], [-0.2]], "gate.bias": [0.0, -gap]}
        table.add(layer, "empty-mode", (3, 4, 2, 5), params=empty, num_modes=2)
    table.add(layer, "ties", (3, 4, 2, 5), params={"gate.weight": [[0.6], [0.6]], "gate.bias": [0.3, 0.3]}, num_modes=2)
    for value in ("1e3", "1e5"):
        far = {"gate.weight": [[0.9 / float(value)], [-0.4 / float(value)]]}
        table.add(layer, f"mean-{value}", x=f"mean={value}", params=far, num_modes=2)
    table.add(layer, "std-1e-3", x="std=1e-3", eps=1e-5, num_modes=2)
    table.add(layer, "nan-one-sample", x="nan", num_modes=2)
    table.add(layer, "pooled", (3, 5, 2, 4), num_modes=2, moments="pooled")
    table.add(layer, "pooled", (4, 6, 3), num_modes=3, moments="pooled")
    table.add(layer, "accumulate", steps="train train", num_modes=2)
    table.add(layer, "two-forwards", steps="train- train", num_modes=2)
    for memory in ("batch-innermost", "nhwc-view", "broadcast-dy"):
        table.add(layer, f"memory-{memory}", memory=memory, num_modes=2)
