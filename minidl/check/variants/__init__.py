"""Known variants of every layer: the known-wrong ones that a diagnosis names, and other right ways to compute it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from minidl.check.variants import batch, conv2d, groups, last_axis, linear, loss, mode_group, modes, pooling
from minidl.check.variants.kinds import Variant

TABLES: dict[str, Callable[[], list[Variant]]] = {
    "batch_norm": batch.batch_norm,
    "instance_norm": groups.instance_norm,
    "layer_norm": groups.layer_norm,
    "group_norm": groups.group_norm,
    "mode_norm": modes.mode_norm,
    "mode_group_norm": mode_group.mode_group_norm,
    "layer_norm_last": last_axis.layer_norm_last,
    "rms_norm": last_axis.rms_norm,
    "conv2d": conv2d.conv2d,
    "max_pool2d": pooling.max_pool2d,
    "avg_pool2d": pooling.avg_pool2d,
    "linear": linear.linear,
    "softmax_cross_entropy": loss.softmax_cross_entropy,
}


@cache
def _variants(layer: str) -> tuple[Variant, ...]:
    return tuple(TABLES[layer]()) if layer in TABLES else ()


def variants_of(layer: str) -> list[Variant]:
    """Known variants of a layer, right and wrong."""
    return list(_variants(layer))


def known_wrong(layer: str) -> list[Variant]:
    """Known-wrong variants of a layer."""
    return [variant for variant in _variants(layer) if not variant.correct]


__all__ = ["TABLES", "Variant", "known_wrong", "variants_of"]
