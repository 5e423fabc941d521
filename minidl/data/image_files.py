"""Image files that act as one read-only array, decoded as they are asked for, by several processes."""

import os
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl import log
from minidl.backend import to_device
from minidl.data.errors import DataError
from minidl.data.image_decode import Corrupt, Decoded, begin, decode_all
from minidl.data.loader import Batch, Loader

CHUNK = 16  # images that a process decodes at a time
CORRUPT = ("refuse", "skip")
DIED = "a process that decodes images died, perhaps for want of memory; lower --threads"


class Decoder:
    """Decodes files on several processes, in order.

    Parameters
    ----------
    workers : int
        Processes; with 1, or where none can be started, the calling thread decodes. The pixels are the same.
    corrupt : {"refuse", "skip"}
        What to do with a file that cannot be decoded: raise a DataError that names it, or name it on stderr, once.
    """

    def __init__(self, workers: int, corrupt: str = "refuse") -> None:
        if workers < 1 or corrupt not in CORRUPT:
            raise ValueError(
                f"Decoder: workers must be >= 1 and corrupt one of {', '.join(CORRUPT)}, got {workers} and {corrupt!r}"
            )
        self.workers, self.corrupt = workers, corrupt
        self.named: set[str] = set()
        self._pool: Executor | None = None

    def start(self, paths: Sequence[str], size: int, seeds: Sequence[Sequence[int]] | None) -> "Pending":
        """Begin to decode; ask the result for its images."""
        starts = range(0, len(paths), CHUNK)
        chunks = [(paths[i : i + CHUNK], size, seeds and seeds[i : i + CHUNK]) for i in starts]
        pool = self._running() if self.workers > 1 and len(paths) > 1 else None
        try:
            return Pending(self, chunks, [pool.submit(decode_all, *chunk) for chunk in chunks] if pool else None)
        except BrokenProcessPool as error:
            raise DataError(DIED) from error

    def report(self, corrupt: Corrupt) -> None:
        """Refuse a corrupt image, or name it."""
        if self.corrupt == "refuse":
            raise DataError(f"{corrupt}; get the file again, remove it, or give --corrupt skip")
        if corrupt.path not in self.named:
            self.named.add(corrupt.path)
            log.warn("minidl", f"{corrupt}; skipped")

    def _running(self) -> Executor | None:
        if self._pool is None:
            import multiprocessing

            try:
                context = multiprocessing.get_context("spawn")
                pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=begin)
                pool.submit(int).result()
            except (OSError, RuntimeError, ImportError, NotImplementedError):
                self.workers = 1
                return None
            self._pool = pool
            weakref.finalize(self, pool.shutdown, wait=False, cancel_futures=True)
        return self._pool

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


class Pending:
    """Images that are being decoded."""

    def __init__(self, decoder: Decoder, chunks: list[Any], futures: list[Future[list[Decoded]]] | None) -> None:
        self._decoder, self._chunks, self._futures = decoder, chunks, futures

    def images(self) -> list[Decoded]:
        """Return the images in their order, once they are there; corrupt ones have been reported.

        Raises
        ------
        DataError
            An image is corrupt and is to be refused, or a decoding process died.
        """
        try:
            parts = [f.result() for f in self._futures] if self._futures else [decode_all(*c) for c in self._chunks]
        except BrokenProcessPool as error:
            raise DataError(DIED) from error
        found = [image for part in parts for image in part]
        for image in found:
            if isinstance(image, Corrupt):
                self._decoder.report(image)
        return found

    def cancel(self) -> None:
        """Release what is not needed again."""
        for future in self._futures or ():
            future.cancel()


class ImageFiles:
    """Files as a read-only array uint8 (M, 3, S, S) of their centre crops: indexing decodes, nothing is kept.

    Parameters
    ----------
    folder : str
        What the names are relative to.
    names : array of bytes (M,)
        As `os.fsencode` gives them.
    size : int
        The side S.
    decoder : Decoder
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, folder: str, names: NDArray[Any], size: int, decoder: Decoder) -> None:
        self.folder, self.names, self.decoder = folder, names, decoder
        self.shape = (len(names), 3, size, size)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: Any) -> NDArray[np.uint8]:
        """Return centre crops for an int, a slice or an array of ints; a corrupt image that is skipped is black."""
        chosen = np.arange(len(self))[which]
        found = self.start(np.atleast_1d(chosen)).images()
        black = np.zeros(self.shape[1:], np.uint8)
        images = np.stack([black if isinstance(image, Corrupt) else image for image in found] or [black])[: len(found)]
        return images if np.ndim(chosen) else images[0]

    def start(self, chosen: NDArray[np.int64], seeds: Sequence[Sequence[int]] | None = None) -> Pending:
        """Begin to decode the chosen images: random crops with a seed each, centre crops without."""
        paths = [os.path.join(self.folder, os.fsdecode(self.names[i])) for i in chosen]
        return self.decoder.start(paths, self.shape[2], seeds)


def _at_decoding(images: Any, rng: np.random.Generator) -> Any:
    """Stand for the augmentation that the decoding processes do: `Loader` then draws its seed each epoch."""
    raise NotImplementedError


_at_decoding.by_parts = True  # type: ignore[attr-defined]  # each image has a seed of its own


class ImageLoader(Loader):
    """A `Loader` of `ImageFiles`: batches decoded ahead on several processes, in bounded memory.

    With `random_crop` each image is cropped, resized and mirrored at random (`minidl.data.image_decode.square`), from a
    seed that follows from the epoch's, the batch and the place in it; so the numbers do not depend on the processes.
    At most `prefetch` + 1 batches are decoded or wait. Batches are on the device of the default backend.

    Where corrupt images are skipped, a training batch has the next whole image of the batch in the place of each; a
    test batch leaves them out.

    Parameters
    ----------
    dataset, batch_size, options
        As for `Loader`, without `augment`.
    random_crop : bool
        Whether this is training.
    """

    def __init__(self, dataset: Any, batch_size: int, *, random_crop: bool = False, **options: Any) -> None:
        super().__init__(dataset, batch_size, augment=_at_decoding if random_crop else None, **options)
        self.random_crop = random_crop

    def _batches(self, order: NDArray[np.int64], seed: int, chosen: range) -> Iterator[Batch]:
        waiting: deque[tuple[NDArray[np.int64], Pending]] = deque()
        ahead = iter(chosen)
        try:
            while True:
                while len(waiting) <= self.prefetch and (k := next(ahead, None)) is not None:
                    where = order[k * self.batch_size : (k + 1) * self.batch_size]
                    mine = self._mine(len(where))
                    where = where[mine]
                    seeds = [(seed, k, i) for i in range(mine.start, mine.stop)] if self.random_crop else None
                    waiting.append((where, self.dataset.images.start(where, seeds)))  # type: ignore[attr-defined]
                if not waiting:
                    return
                where, pending = waiting.popleft()
                yield self._whole(where, pending.images())
        finally:
            for _, pending in waiting:
                pending.cancel()

    def _whole(self, where: NDArray[np.int64], found: list[Decoded]) -> Batch:
        """Return the batch of the images that could be decoded."""
        good = [i for i, image in enumerate(found) if not isinstance(image, Corrupt)]
        if not good and found:
            raise DataError(f"none of the {len(found)} images of a batch can be decoded; check the files")
        if self.random_crop and len(good) < len(found):
            good = [next((g for g in good if g >= i), good[0]) for i in range(len(found))]
        kept = where[good]
        empty = np.zeros((0, *self.dataset.images.shape[1:]), np.uint8)
        x = self._normalised(np.stack([np.asarray(found[i]) for i in good]) if good else empty)
        return to_device(x), to_device(self.dataset.labels[kept]), to_device(self.dataset.source[kept])
