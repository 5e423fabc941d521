"""A trained network with what its inputs and its classes are: it predicts, and is measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minidl.arguments import arithmetic, shown, whole
from minidl.backend import on_gpu, to_host, use_backend
from minidl.image_arguments import Images, as_picture, refuse_ambiguous, refuse_kind
from minidl.layers.base import Layer

if TYPE_CHECKING:
    from minidl.data import Dataset, Loader, Task
    from minidl.train import Config

BATCH = 128


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of M images.

    Attributes
    ----------
    probabilities : float (M, num_classes)
        The softmax of the logits.
    labels : int64 (M,)
        The class of the highest probability.
    names : list of str
        Its name, for each image.
    """

    probabilities: NDArray[Any]
    labels: NDArray[np.int64]
    names: list[str]

    def top(self, k: int, class_names: Sequence[str]) -> list[list[tuple[str, float]]]:
        """Return for each image the k likeliest classes with their probabilities, the likeliest first.

        Raises
        ------
        ValueError
            If k is no whole number from 1 up, or the names are not those of all classes.
        """
        k = whole(k, "top: k", cure="pass how many classes, from 1 up")
        if isinstance(class_names, str) or len(class_names) != self.probabilities.shape[1]:
            given = shown(class_names) if isinstance(class_names, str) else f"{len(class_names)}"
            raise ValueError(
                f"top: class_names must be the names of all {self.probabilities.shape[1]} classes, got {given}; "
                "pass class_names of what minidl.load gave"
            )
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(class_names[i], float(row[i])) for i in best] for best, row in zip(order, self.probabilities, strict=True)
        ]


class Classifier:
    """A trained network with what its inputs and its classes are; `minidl.load` makes it.

    Attributes
    ----------
    network : Layer
        In evaluation mode, with the weights and the running statistics of the checkpoint.
    class_names : tuple of str
    config : Config
        Of the run.
    step : int
        Updates that the checkpoint has seen.
    shape : (int, int, int)
        Of an input, (3, H, W).
    mean, std : float64 (3,)
        An input is (pixel/255 − mean)/std, channel by channel.
    record : dict
        The run's config.json, or of a checkpoint that is alone as much of it as that holds.
    """

    def __init__(
        self,
        network: Layer,
        config: Config,
        record: dict[str, Any],
        step: int,
        tensors: dict[str, NDArray[Any]],
    ) -> None:
        self.network, self.config, self.record, self.step = network, config, record, step
        self.tensors = tensors
        about = record["input"]
        self.class_names = tuple(about["class_names"])
        self.shape = (int(about["shape"][0]), int(about["shape"][1]), int(about["shape"][2]))
        self.mean, self.std = np.array(about["mean"]), np.array(about["std"])
        self.fit = str(about["fit"])

    def __repr__(self) -> str:
        return f"Classifier({self.config.name()} after update {self.step}; {len(self.class_names)} classes)"

    def __str__(self) -> str:
        """Return what it is, and the table of its layers with the shapes of their outputs."""
        return f"{self!r}\n{self.network}"

    def predict(self, images: Images) -> Prediction:
        """Return what the network says of images, each made an input as in training.

        Parameters
        ----------
        images : path, Pillow image, uint8 array, or a sequence of these
            An array is one image (H, W) or (H, W, 3), or several (M, H, W, 3), (M, 3, H, W), (M, H, W, 1) or
            (M, 1, H, W). Any other array of three axes is refused: (3, H, W) may be one image in colour or three grey
            ones. ``images[None]`` is the one in colour, ``list(images)`` are M grey ones. A sequence may mix kinds and
            sizes; an array in it is one image, (3, H, W) among others.

        Raises
        ------
        DataError
            A file cannot be read or decoded.
        ValueError
            An array is no image, or may be one or several.
        TypeError
            Something is none of these, such as None, bytes or a tensor of PyTorch.
        DivergedError
            The network's output is not finite: its weights are too large.
        LateError
            A layer of one's own raises, or gives what it must not.

        Examples
        --------
        >>> import minidl
        >>> net = minidl.load("runs/photos")  # doctest: +SKIP
        >>> net.predict("new/1.jpg").names  # doctest: +SKIP
        ['goldfish']
        """
        from minidl.data import Dataset

        pixels = self.inputs(images)
        zeros = np.zeros(len(pixels), np.int64)
        loader = self.loader(Dataset(pixels, zeros, zeros, ("",), len(self.class_names)))
        found = [np.zeros((0, len(self.class_names)))]
        with self._computing():
            for x, labels, _ in loader:
                logits = self.network.forward(x)
                if getattr(logits, "shape", None) != (len(labels), len(self.class_names)):
                    raise ValueError(f"predict: the network must give logits {len(labels), len(self.class_names)}")
                found.append(softmax(to_host(logits)))
            probabilities = np.concatenate(found[1:] or found)
            if not np.isfinite(probabilities).all():
                raise self._not_finite("an output of the network is not finite", loader)
        labels = probabilities.argmax(axis=1)
        return Prediction(probabilities, labels, [self.class_names[i] for i in labels])

    def inputs(self, images: Images) -> NDArray[np.uint8]:
        """Return images as uint8 (M, 3, H, W), cropped and resized as in training: see `predict`."""
        single = isinstance(images, str | os.PathLike) or hasattr(images, "convert")
        if not single:
            refuse_kind(images, one=False)
        if isinstance(images, np.ndarray):
            if images.ndim == 4 and images.shape[1:] == self.shape and images.dtype == np.uint8:
                return images
            single = images.ndim <= 3
            refuse_ambiguous(images)
        each = [images] if single else list(images)
        made = np.empty((len(each), *self.shape), np.uint8)
        for i, image in enumerate(each):
            made[i] = self._input(image)
        return made

    def _input(self, image: Any) -> NDArray[np.uint8]:
        from minidl.data import DataError
        from minidl.data.fit import fit, fit_file

        size = self.shape[-1]
        if self.shape[-2] != size:
            raise ValueError(f"predict: this network's inputs are no squares; give uint8 arrays (M, *{self.shape})")
        if isinstance(image, str | os.PathLike):
            try:
                return fit_file(image, size, self.fit)
            except ValueError as error:
                if os.path.isdir(image):
                    raise DataError(
                        f"{os.fspath(image)}: a folder, not an image; give the files in it, such as "
                        f"sorted(pathlib.Path({os.fspath(image)!r}).glob('*.jpg'))"
                    ) from error
                if not os.path.lexists(image):
                    raise DataError(f"{os.fspath(image)}: no such file; correct its name") from error
                raise DataError(f"{os.fspath(image)}: {error}; mend it, or leave it out") from error
        if not hasattr(image, "convert"):
            refuse_kind(image, one=True)
            from PIL import Image

            image = Image.fromarray(as_picture(np.asarray(image)))
        return fit(image, size, self.fit)

    def loader(self, dataset: Dataset) -> Loader:
        """Return the batches of a data set as in the evaluations of training: in order, normalised."""
        from minidl.data import DeviceLoader, Loader
        from minidl.data.image_files import ImageFiles, ImageLoader

        kind: Any = DeviceLoader if on_gpu(self.config.backend) else Loader
        kind = ImageLoader if isinstance(dataset.images, ImageFiles) else kind
        batch = max(self.config.batch_size, BATCH)
        with use_backend(str(self.config.backend)):
            made: Loader = kind(dataset, batch, mean=self.mean, std=self.std, dtype=self.config.dtype, shuffle=False)
        return made

    def evaluate(self, task: Task, watch: Callable[[Any, Any], None] | None = None) -> dict[str, Any]:
        """Return loss and error on a task's test set, as a line of metrics.jsonl has them.

        Parameters
        ----------
        task : Task
            With the network's classes, or some of them: they are found by their names, in whatever order they are.
        watch : callable, optional
            Called with the logits and the labels of each batch.

        Raises
        ------
        DataError
            The network does not know one of the classes or takes images of another size, or there are no test images.
        TypeError
            It is no task.
        DivergedError
            The loss is not finite: the network's weights are too large.
        """
        from minidl.evaluate.data import fitted
        from minidl.train.evaluate import evaluate

        _refuse_no_task(task, self.shape[-1])
        task = fitted(task, self.class_names, self.shape)
        with self._computing():
            loader = self.loader(task.test)
            result = evaluate(self.network, loader, task.test.sources, top5=task.top5, watch=watch)
            self.network.eval()
            assert result is not None  # nothing stops it
            if not np.isfinite(result["test_loss"]):
                raise self._not_finite(f"the test loss is {result['test_loss']}", loader)
        return result

    def _not_finite(self, what: str, loader: Loader) -> Exception:
        """Return what to raise where a number is not finite: the weights are, so they are too large.

        In a network with a norm or layers of somebody's own, these may have a mistake.
        """
        from minidl.train.diverged import where_in
        from minidl.train.finite import DivergedError
        from minidl.train.named import own_settings

        own = own_settings(self.config)
        look = f", or look for a mistake in {' and '.join(own)}," if own else ""
        return DivergedError(
            f"{what} after update {self.step}{where_in(self.network, loader)}: the weights are too large; take an "
            f"earlier checkpoint of the run{look or ','} or train it anew"
        )

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Compute as the run is configured; what a layer of somebody's own makes go wrong is a LateError."""
        from minidl.backend import use_device

        with use_backend(str(self.config.backend)), use_device(self.config.device):
            try:
                yield
            except (Exception, SystemExit) as error:
                from minidl.train.late import explain_use
                from minidl.train.named import own_settings

                explain_use(error, self.network.eval(), own_settings(self.config))
                raise


@arithmetic()
def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return exp(z − max z) over its sum, row by row.

    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _refuse_no_task(task: Any, size: int) -> None:
    """Raise TypeError where something is no Task; `size` is that of the network's images."""
    from minidl.data import Task

    if not isinstance(task, Task):
        given = repr(os.fspath(task)) if isinstance(task, str | os.PathLike) else type(task).__name__
        raise TypeError(
            f"evaluate: task must be a Task, got {given}; give minidl.data.load_task('folder', data_dir=..., "
            f"image_size={size}) of a folder of images, or minidl.data.arrays_task(...)"
        )
