"""Softmax cross-entropy."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision
from minidl.reference.gating import log_softmax


def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    """Average the surprise −log p of the true labels.

    loss = −(1/N) sum_n log softmax(logits_n)[labels_n]

    Parameters
    ----------
    logits : array
        One score per class.
    labels : array of int
        The true class of each sample, from 0.

    Raises
    ------
    ValueError
        If a shape is not one of these, or a label is no class.

    >>> np.exp(softmax_cross_entropy(np.log([[1.0, 3.0]]), np.array([0]))).round(6)
    np.float64(4.0)

    Notes
    -----
    Shape: logits : (N, K);  labels : (N,);  loss : ()
    """
    (logits,) = common_precision(logits)
    labels = _check_labels("softmax_cross_entropy", logits, labels)
    log_p = log_softmax(logits, axis=1)  # (N, K)
    loss = np.zeros((), logits.dtype)
    for n in range(len(logits)):
        loss -= log_p[n, labels[n]] / len(logits)
    return loss


def softmax_cross_entropy_backward(dloss: Array | float, logits: Array, labels: Array) -> dict[str, Array]:
    """Return dlogits of :func:`softmax_cross_entropy`: (dloss / N) · (p_nk − [k = labels_n]).

    >>> softmax_cross_entropy_backward(1.0, np.log([[1.0, 3.0]]), np.array([1]))["dlogits"].round(6)
    array([[ 0.25, -0.25]])
    """
    dloss, logits = common_precision(dloss, logits)
    labels = _check_labels("softmax_cross_entropy_backward", logits, labels)
    check_shapes("softmax_cross_entropy_backward", dloss=(dloss, ()))
    dlogits = np.exp(log_softmax(logits, axis=1))
    for n in range(len(logits)):
        dlogits[n, labels[n]] -= 1
    return {"dlogits": dlogits * dloss / len(logits)}


def _check_labels(where: str, logits: Array, labels: Array) -> Array:
    """Return the labels as an array, or raise a ValueError."""
    labels = np.asarray(labels)
    if logits.ndim != 2 or logits.size == 0:
        raise ValueError(f"{where}: logits must be a non-empty (N, K), got shape {logits.shape}; reshape logits")
    check_shapes(where, labels=(labels, (len(logits),)))
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"{where}: labels must be integers from 0 to {logits.shape[1] - 1}, "
            f"got {labels.dtype} from {labels.min()} to {labels.max()}; check the labels"
        )
    return labels
