"""The test error of a model, in all and per dataset, and how its mode norms used their modes meanwhile."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..backend import Array, array_module, to_host
from ..layers.base import Layer
from ..losses import SoftmaxCrossEntropy
from .running import numbers

Total = Callable[..., Any]


def _own(*sums: Any) -> tuple[Any, ...]:
    return sums


class GateUsage:
    """How the norms with gates spread a dataset over their modes.

    For each such layer, with g_nk the gates (for mode group norm g_nck, whose channels count as samples):

        usage_k = mean_n g_nk,   entropy = −Σ_k usage_k ln usage_k,   sample entropy = mean_n −Σ_k g_nk ln g_nk.

    An entropy of ln K means that all modes are used alike, 0 that one takes everything. A sample entropy near 0 means
    that each sample chooses one mode; if it is as large as the entropy, the modes do not tell samples apart.

    Parameters
    ----------
    model : Layer
        The layers of its tree that have an attribute `gates` are watched.
    """

    def __init__(self, model: Layer) -> None:
        self._layers = {path: layer for path, layer in model.named_layers() if _has_gates(layer)}
        self._sums: dict[str, tuple[Array, Array, int]] = {}

    def add(self) -> None:
        """Count the gates of the last forward."""
        for path, layer in self._layers.items():
            gates = layer.gates.reshape(-1, layer.gates.shape[-1]).astype(np.float64)  # type: ignore[attr-defined]
            xp = array_module(gates)
            entropies = -(gates * xp.log(xp.maximum(gates, np.finfo(np.float64).tiny))).sum()
            usage, entropy, count = self._sums.get(path, (0, 0, 0))
            self._sums[path] = (usage + gates.sum(axis=0), entropy + entropies, count + len(gates))

    def result(self, total: Total = _own) -> dict[str, dict[str, Any]]:
        """Return {path: {"usage": [K numbers], "entropy": ..., "sample_entropy": ...}}, entropies in nats."""
        found = {}
        for path, sums in self._sums.items():
            usage_sum, entropy_sum, count = total(*sums)
            usage = to_host(usage_sum) / count
            entropy = -float((usage * np.log(np.maximum(usage, np.finfo(np.float64).tiny))).sum())
            found[path] = {
                "usage": usage.tolist(),
                "entropy": entropy,
                "sample_entropy": float(to_host(entropy_sum)) / count,
            }
        return found


def evaluate(
    model: Layer,
    batches: Iterable[tuple[Array, Array, Array]],
    sources: tuple[str, ...],
    stop: Callable[[], bool] = lambda: False,
    top5: bool = False,
    watch: Callable[[Array, Array], None] | None = None,
    total: Total = _own,
) -> dict[str, Any] | None:
    """Return the model's loss and error in eval mode; the model is in training mode afterwards.

    What is counted stays on the device until the end.

    Parameters
    ----------
    model : Layer
        Any network from images to logits.
    batches : iterable of (x, labels, source)
        The test set, in the model's library; `source` indexes `sources`.
    sources : tuple of str
        The names of the datasets.
    stop : callable
        Asked before every batch; True ends the evaluation without a result.
    top5 : bool
        Measure the share of images too whose class is not among the five highest logits.
    watch : callable, optional
        Called with the logits and the labels of each batch.
    total : callable
        Called with sums over `batches`; returns them summed over the processes that have a part of the test set each,
        at least one image. A process that stops stops all.

    Returns
    -------
    dict or None
        "test_loss", "test_error" (percent), "test_errors" {name: percent}, "test_error_top5" if asked for, and "gates"
        if the model has any.
    """
    criterion = SoftmaxCrossEntropy()
    gates = GateUsage(model)
    losses: list[Array] = []
    sizes: list[int] = []
    seen: Array = 0  # (sources,), like `wrong`
    wrong: Array = 0
    outside: Array = 0  # images whose class is not among the five highest
    stopped = False
    model.eval()
    try:
        for x, labels, source in batches:
            if stopped := stop():
                break
            logits = model.forward(x)
            losses.append(criterion.forward(logits, labels))
            sizes.append(len(labels))
            members = source[:, None] == array_module(source).arange(len(sources))  # (n, sources)
            mistaken = logits.argmax(axis=1) != labels
            seen = seen + members.sum(axis=0)
            wrong = wrong + (members & mistaken[:, None]).sum(axis=0)
            if top5:
                own = logits[array_module(logits).arange(len(labels)), labels]
                higher = ~(logits <= own[:, None])  # NaN counts as higher, so that it is never right
                outside = outside + (higher.sum(axis=1) >= 5).sum()
            gates.add()
            if watch is not None:
                watch(logits, labels)
    finally:
        model.train()
    (stopped,) = total(int(stopped))
    if stopped:
        return None
    in_all = sum(value * n for value, n in zip(numbers(losses), sizes, strict=True))
    loss, seen, wrong, outside = (to_host(each) for each in total(in_all, seen, wrong, outside))
    result: dict[str, Any] = {
        "test_loss": float(loss) / int(seen.sum()),
        "test_error": 100 * int(wrong.sum()) / int(seen.sum()),
        "test_errors": {name: 100 * int(w) / int(n) for name, w, n in zip(sources, wrong, seen, strict=True) if n},
    }
    if top5:
        result["test_error_top5"] = 100 * int(outside) / int(seen.sum())
    if usage := gates.result(total):
        result["gates"] = usage
    return result


def _has_gates(layer: Layer) -> bool:
    return "gates" in vars(layer) or hasattr(type(layer), "gates")
