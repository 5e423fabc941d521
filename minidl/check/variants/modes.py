"""Known variants of mode normalization."""

from __future__ import annotations

from minidl.check.variants import found_in_code as found
from minidl.check.variants import orders
from minidl.check.variants import reported_norms as reported
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.modes_backward import mode_backward
from minidl.check.variants.modes_gates import gates, more_gates
from minidl.check.variants.modes_moments import moments, more_moments
from minidl.check.variants.modes_state import inference
from minidl.check.variants.slips import of_modes

VAR = "var = total(w[:, :, None] * mean(d * d, 3)[..., 0], 0)  # 1 K C"


def mode_norm() -> list[Variant]:
    """Variants of mode normalization."""
    table = Collection("mode_norm")
    gates(table)
    moments(table)
    inference(table)
    more_gates(table)
    more_moments(table)
    mode_backward(table)
    of_modes(table)
    reported.of_modes(table)
    orders.of_modes(table)
    table.right("as the formula reads")
    table.right(
        "two passes, corrected mean",
        (
            "d = flat[:, None] - mu[..., None]  # N K C L",
            "d = flat[:, None] - mu[..., None]\n            rest = total(w[:, :, None] * mean(d, 3)[..., 0], "
            "0)\n            d = d - rest[..., None]",
        ),
    )
    table.right(
        "law of total variance",
        (
            VAR,
            "v = mean((flat - m[:, 0, :, None]) ** 2, 2)[:, None, :, 0]\n            var = total(w[:, :, None] "
            "* (v + (m - mu) * (m - mu)), 0)",
        ),
    )
    found.of_modes(table)
    return table.variants
