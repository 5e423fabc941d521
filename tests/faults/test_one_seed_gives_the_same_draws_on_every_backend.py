"""Promise 6: one seed gives the same weights, batches, augmentation and dropout on every backend."""

import hashlib

import numpy as np
import pytest
import strict
from tiny_run import BATCHES, make_tiny, tiny_config, tiny_task

from minidl import Dropout, use_backend
from minidl.backend import to_host, why_no_numba
from minidl.models import MODELS
from minidl.train import Trainer

BACKENDS = ["numpy", "cupy"] + ["numba"] * (why_no_numba() is None)


def sha256(arrays):
    hashed = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(to_host(array))
        hashed.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return hashed.hexdigest()


def draws(backend, seed):
    """Return hashes of the initial weights, of two epochs of augmented batches, and of what dropout leaves of them."""
    with strict.as_cupy():
        trainer = Trainer(tiny_config(backend=backend, seed=seed), quiet=True, task=tiny_task())
        weights = sha256(array for _, array in sorted(trainer.model.state().items()))
        batches, kept = [], []
        with use_backend(backend):
            (dropout,) = (layer for _, layer in trainer.model.named_layers() if isinstance(layer, Dropout))
            for _ in range(2):
                for x, labels, source in trainer._loader:
                    batches += [x, labels, source]
                    kept.append(dropout.forward(x + 1) != 0)
        assert len(kept) == 2 * BATCHES
        return weights, sha256(batches), sha256(kept)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_weights_batches_augmentation_and_dropout_are_those_of_numpy(backend):
    assert draws(backend, seed=3) == draws("numpy", seed=3)


def test_another_seed_draws_all_of_them_anew():
    for one, other in zip(draws("numpy", seed=3), draws("numpy", seed=4), strict=True):
        assert one != other


@pytest.mark.parametrize("model", ["lenet", "resnet20", "tiny"])
def test_every_networks_weights_are_drawn_alike(model, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    seen = set()
    with strict.as_cupy():
        for backend in BACKENDS:
            state = Trainer(tiny_config(backend=backend, model=model), quiet=True, task=tiny_task()).model.state()
            seen.add(sha256(array for _, array in sorted(state.items())))
    assert len(seen) == 1
