"""How many images per second the loader delivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from minidl import device
from minidl.backend import on_gpu
from minidl.bench.cases import Settings
from minidl.bench.record import Record, record
from minidl.bench.timing import Work, interleave
from minidl.data import Compose, Dataset, DeviceLoader, Loader, PadCrop, RandomFlip, channel_statistics, load_task

IMAGES = 40_000  # the sample is repeated to about this number, so that a batch is gathered from all over memory
BATCHES = 20  # in a call: more than the loader computes ahead


def loader(settings: Settings) -> Iterator[Record]:
    """Batches with and without augmentation, of the sample or of the files in the folder given."""
    if settings.data_dir:
        task = load_task("multitask", data_dir=settings.data_dir, progress=False)
        dataset, name = task.train, task.name
    else:
        dataset = load_task("multitask", sample=True, progress=False).train
        copies = 1 if settings.quick else -(-IMAGES // len(dataset))
        dataset, name = repeated(dataset, copies), f"multitask sample, {copies} times"
    for n in settings.batches or (128,):
        works = {
            "plain": Work({"batches": _batches(dataset, n, augmented=False)}),
            "flip and crop": Work({"batches": _batches(dataset, n, augmented=True)}),
        }
        taken = interleave(works, settings.plan)
        for kind, parts in taken.items():
            one_batch = [seconds / BATCHES for seconds in parts["batches"]]
            row = record("loader", f"{kind}, {name}", None, n, None, one_batch)
            yield row | {"images_per_second": round(1e3 * n / row["minidl_ms"])}


def repeated(dataset: Dataset, copies: int) -> Dataset:
    """Return a data set with every image `copies` times."""
    images = np.tile(dataset.images, (copies, 1, 1, 1))
    return replace(
        dataset, images=images, labels=np.tile(dataset.labels, copies), source=np.tile(dataset.source, copies)
    )


def _batches(dataset: Dataset, n: int, augmented: bool) -> Callable[[], object]:
    mean, std = channel_statistics(dataset)
    augment = Compose(RandomFlip(), PadCrop(4)) if augmented else None
    kind = DeviceLoader if on_gpu() else Loader
    loader = kind(dataset, n, mean=mean, std=std, augment=augment, rng=np.random.default_rng(0), drop_last=True)

    def endless() -> Iterator[object]:
        while True:
            yield from loader

    stream = endless()

    def call() -> None:
        for _ in range(BATCHES):
            next(stream)
        device.synchronize()

    return call
