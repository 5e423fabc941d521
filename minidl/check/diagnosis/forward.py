"""Which slips the forward pass of a normalization is composed of: one, or two at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from minidl.check.diagnosis.evidence import Bench, Tensor
from minidl.check.diagnosis.items import Item, items
from minidl.check.variants.composed import Composed, answering, composed
from minidl.check.variants.parts import LAYERS, Parts, choices

LOOKED_AT = 8  # steps, of different shapes, that must all be answered
MOST = 4  # that may answer alike and still be weighed


def compositions(bench: Bench, left: set[Tensor], layer: str) -> list[Composed]:
    """The compositions of fewest slips that give the layer's y."""
    if layer not in LAYERS:
        return []
    kinds = ("out.y",) if layer == "batch_norm" else ("out.y", "eval.y")
    found = [item for kind in kinds for item in items(bench, kind, left) if item.wrong and item.training]
    spread = spread_out(found)
    if len(spread) < 3:
        return []
    singles = tuple(parts for parts in choices(layer) if parts.single)
    pairs = tuple(parts for parts in choices(layer) if not parts.single)
    for among in (singles, pairs):
        some = tuple({*told(spread[0], among), *told(spread[1], among)})  # one of the two may be odd
        counts = Counter(parts for item in spread for parts in told(item, some))
        best = [parts for parts in among if counts[parts] >= len(spread) - 1]
        if best:
            most = max(counts[parts] for parts in best)
            best = [parts for parts in best if counts[parts] == most]
            fewest = min(len(parts.slips) for parts in best)
            best = [parts for parts in best if len(parts.slips) == fewest][:MOST]
            if layer == "batch_norm":
                best += [replace(parts, tracked=True) for parts in best if parts.count]
            return [composed(layer, parts) for parts in best]
    return []


def told(item: Item, among: tuple[Parts, ...]) -> list[Parts]:
    """The parts that answer a step as the layer did."""
    return list(answering(item.layer, item.options, item.x, item.got, item.tol, item.params, among))


def spread_out(found: list[Item]) -> list[Item]:
    """Some steps, of the highest rank first, each shape once before any twice."""
    chosen: list[Item] = []
    waiting = sorted(
        (item for item in found if abs(item.x).max() < 100 and item.x.size <= 2000),
        key=lambda item: (-item.x.ndim, item.x.size),
    )
    for item in waiting:
        if item.x.shape not in {other.x.shape for other in chosen}:
            chosen.append(item)
    chosen += [item for item in waiting if item.at not in {other.at for other in chosen}]
    return chosen[:LOOKED_AT]
