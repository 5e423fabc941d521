"""The gates that a trained network gives to every test image, and what they tell of the dataset an image is from."""

import sys
from dataclasses import dataclass

import numpy as np

from minidl.backend import to_device, to_host, use_backend
from minidl.data import Task
from minidl.norm import ModeNorm
from minidl.norm.select import fit_modes
from minidl.reproduce.store import ReproduceError, StoredRun
from minidl.train import build
from minidl.train.checkpoint import load_latest
from minidl.train.stored import under


@dataclass(frozen=True)
class LayerGates:
    """The gates of one norm.

    Attributes
    ----------
    layer : str, its path in the network
    gates : (M, K), of the M test images in their order
    source : (M,), index of each image's dataset
    sources : names of the datasets
    """

    layer: str
    gates: np.ndarray
    source: np.ndarray
    sources: tuple[str, ...]

    def means(self) -> np.ndarray:
        """Return the mean gate of each mode over each dataset, (datasets, K)."""
        return np.stack([self.gates[self.source == d].mean(axis=0) for d in range(len(self.sources))])

    def chosen(self) -> np.ndarray:
        """Return the share of each dataset's images whose highest gate is each mode's, (datasets, K)."""
        best = np.eye(self.gates.shape[1])[self.gates.argmax(axis=1)]
        return np.stack([best[self.source == d].mean(axis=0) for d in range(len(self.sources))])

    def highest(self, mode: int, count: int) -> np.ndarray:
        """Return the indices of the images with the highest gate of a mode, the highest first.

        Ordered by the sum of the other gates, which still tells apart gates that round to 1.
        """
        others = np.delete(self.gates, mode, axis=1).sum(axis=1)
        return np.argsort(others, kind="stable")[:count]

    def information(self) -> tuple[float, float]:
        r"""Return how many nats a mode drawn by the gates tells of an image's dataset, and the entropy of the dataset.

        .. math:: I = \sum_{d,k} p(d)\, \bar g_{dk} \ln \frac{\bar g_{dk}}{\sum_{d'} p(d')\, \bar g_{d'k}}

        0 means that the modes do not tell datasets apart. It cannot exceed ln K, nor the entropy.
        """
        p = np.bincount(self.source, minlength=len(self.sources)) / len(self.source)
        means = self.means()
        tiny = np.finfo(np.float64).tiny
        ratio = np.log(np.maximum(means, tiny)) - np.log(np.maximum(p @ means, tiny))
        return float(p @ (means * ratio).sum(axis=1)), float(-(p * np.log(np.maximum(p, tiny))).sum())


def gates_on_test_set(run: StoredRun, task: Task) -> list[LayerGates]:
    """Return the gates of each mode norm of a finished run, from its last checkpoint, over the test set.

    Raises
    ------
    ReproduceError
        If its checkpoints are gone.
    """
    found = load_latest(run.path / "checkpoints", lambda line: print(f"minidl.reproduce: {line}", file=sys.stderr))
    if found is None:
        raise ReproduceError(f"{run.path} has no checkpoint; remove that folder to train the run again")
    rng = np.random.default_rng(0)  # what it draws is overwritten
    with use_backend(run.config.backend or "numpy"):
        model = build.make_model(run.config, task, rng, rng)
        state = under(found[0], "model.")
        if run.config.modes == "auto":
            fit_modes(model, state, run.config.max_modes)
        model.load_state(state)
        model.eval()
        norms = {path: layer for path, layer in model.named_layers() if isinstance(layer, ModeNorm)}
        taken: dict[str, list[np.ndarray]] = {path: [] for path in norms}
        _, batches = build.make_loaders(run.config, task, rng)
        for x, _, _ in batches:
            model.forward(to_device(x))
            for path, layer in norms.items():
                taken[path].append(to_host(layer.gates))
    return [
        LayerGates(path, np.concatenate(gates), np.asarray(task.test.source), task.test.sources)
        for path, gates in taken.items()
    ]
