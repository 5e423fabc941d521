"""How a running statistic is updated: the weights of the old and of the new one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minidl.check.diagnosis.evidence import Tensor
from minidl.check.diagnosis.items import SHARE, Item, everywhere


def by_update(found: list[Item]) -> tuple[str, set[Tensor]] | None:
    """The two weights of a running statistic's update, of the old and of the new."""
    measured: list[tuple[Item, float, float]] = []
    wrong = [
        item
        for item in found
        if item.wrong
        and item.training
        and item.old is not None
        and np.any(item.old)
        and item.want.size > 2
        and 0 < float(item.options.get("momentum", 0)) < 1
    ]
    for item in wrong:
        lam = float(item.options["momentum"])
        if item.old is None or item.base is None:
            continue
        new = (item.want - (1 - lam) * item.base) / lam
        columns = np.stack([item.old.ravel(), new.ravel()], 1)
        scale = 1 / item.tol.ravel()
        both, *_ = np.linalg.lstsq(columns * scale[:, None], item.got.ravel() * scale, rcond=None)
        if item.equals((columns @ both).reshape(item.got.shape), 2.0):
            measured.append((item, float(both[0]), float(both[1])))
    if len(measured) < 4 or len(measured) < 0.8 * len(wrong):
        return None
    told = []
    for what, of in (("old", _old), ("new", _new)):
        held: dict[str, set[Tensor]] = {}
        for row in measured:
            for name, value in weights(row[0]):
                if abs(value - of(row)) <= 3e-3 * max(abs(value), 0.1):
                    held.setdefault(name, set()).add(row[0].at)
        usual = [
            name
            for name, _ in weights(measured[0][0])
            if len(held.get(name, ())) >= SHARE * len(measured) and everywhere((r[0] for r in measured), held[name])
        ]
        if not usual:
            return None
        told.append(f"the {what} one weighs {usual[0]}")
    return f"is updated wrongly: {' and '.join(told)}", {item.at for item, *_ in measured}


def _old(row: tuple[Item, float, float]) -> float:
    return row[1]


def _new(row: tuple[Item, float, float]) -> float:
    return row[2]


def weights(item: Item) -> Iterator[tuple[str, float]]:
    """Weights of an update, in words."""
    lam = float(item.options["momentum"])
    n = item.x.size / item.x.shape[1]
    single = {"1 − momentum": 1 - lam, "momentum": lam, "1": 1.0, "0": 0.0, "momentum squared": lam * lam}
    single |= {"the root of momentum": lam**0.5, "1 − the root of momentum": 1 - lam**0.5}
    single |= {"(1 − momentum) squared": (1 - lam) ** 2, "2 momentum": 2 * lam, "1 + momentum": 1 + lam}
    single |= {"1 − 2 momentum": 1 - 2 * lam, "−momentum": -lam, "1 − momentum squared": 1 - lam * lam}
    single |= {"momentum times (1 − momentum)": lam * (1 - lam), "momentum/2": lam / 2, "1 − momentum/2": 1 - lam / 2}
    yield from single.items()
    ratios = {"n/(n − 1)": n / max(n - 1, 1), "(n − 1)/n": (n - 1) / n, "n": n, "1/n": 1 / n}
    ratios |= {"N": float(len(item.x)), "1/N": 1 / len(item.x)}
    for name, value in single.items():
        for word, by in ratios.items():
            if value:
                yield f"{name} times {word}", value * by
    for number in (0.1, 0.9, 0.01, 0.99, 0.001, 0.999, 0.5):
        yield f"{number} always", number
