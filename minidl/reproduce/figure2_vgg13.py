"""The paper's Figure 2 as it is: the test images that the modes of a VGG13 take, and what tells the modes apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data import Task
from minidl.reproduce.csv_output import to_csv
from minidl.reproduce.drawing import to_png
from minidl.reproduce.figure2 import IMAGES, draw_images, image_rows
from minidl.reproduce.gates import LayerGates, gates_on_test_set
from minidl.reproduce.markdown import NONE, as_list, grid
from minidl.reproduce.plan import TABLES, Run, runs
from minidl.reproduce.report import about_runs, warnings_of, write_files
from minidl.reproduce.store import Data, Store, run_hash
from minidl.train.plots import own_settings

LAYERS = {"1": "conv3-64-1", "15": "conv3-256-1"}  # path of a norm: the convolution before it
FRAME = 2  # pixels
APART = 0.2  # distance of a colour from the frame's, in RGB from 0 to 1
Statistics = dict[str, np.ndarray]


def vgg13_runs(scale: Decimal, data: str, **settings: Any) -> list[Run]:
    """Return the run that is looked into: that of Table 3 with VGG13 and MN, first seed."""
    table = TABLES["table3" if data == "cifar10" else "table3-cifar100"]
    return [run for run in runs(table, 1, scale, **settings) if (run.row, run.column) == ("VGG13", "MN")]


def vgg13_files(stem: str) -> list[str]:
    """Return the names of the files: a picture and three tables."""
    return [f"{stem}-images.png", f"{stem}-images.csv", f"{stem}.csv", f"{stem}.md"]


def image_statistics(images: np.ndarray) -> Statistics:
    """Return plain measures of images uint8 (M, 3, H, W), each (M,).

    *Red over blue* is mean red minus mean blue, *brightness* the mean of all, *object size* the share of the pixels
    whose colour is further than 0.2 (Euclidean, RGB from 0 to 1) from the median colour of the outer two pixels.

    Examples
    --------
    >>> image = np.zeros((1, 3, 8, 8), np.uint8)
    >>> image[:, 0, 2:6, 2:6] = 255
    >>> {name: float(values[0]) for name, values in image_statistics(image).items()}
    {'red over blue': 0.25, 'brightness': 0.08333333333333333, 'object size': 0.25}
    """
    pixels = images / 255
    inside = np.zeros(images.shape[2:], bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    border = np.median(pixels[:, :, ~inside], axis=2)[:, :, None, None]
    apart = np.sqrt(((pixels - border) ** 2).sum(axis=1)) > APART
    means = pixels.mean(axis=(2, 3))
    return {
        "red over blue": means[:, 0] - means[:, 2],
        "brightness": means.mean(axis=1),
        "object size": apart.mean(axis=(1, 2)),
    }


def apart(gates: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return by how many standard deviations the mean of a measure over each mode is above that over all images.

    The mean over mode k weighs image n by its gate g_nk; (K,). That of a mode whose gates are all 0 is NaN.

    Examples
    --------
    >>> apart(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 3.0]))
    array([-1.,  1.])
    >>> apart(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1.0, 3.0]))
    array([ 0., nan])
    """
    with np.errstate(invalid="ignore"):  # of a mode that no image takes
        mean = gates.T @ values / gates.sum(axis=0)
    found: np.ndarray = (mean - values.mean()) / max(float(values.std()), np.finfo(np.float64).tiny)
    return found


@own_settings()
def write_vgg13(
    planned: Sequence[Run], store: Store, task: Task, data: Data, command: str, scale: Decimal, stem: str
) -> tuple[str, list[Path]]:
    """Write the picture, a CSV and a page from the finished run; return the page's table and the files.

    Parameters are those of `minidl.reproduce.figure2.write_figure2`.
    """
    run = planned[0]
    there = store.read()[run_hash(run.config, data)]
    about = about_runs([there], task.name, data, command, seeds=1)
    warnings = warnings_of(scale, data, task.name)
    layers = [layer for layer in gates_on_test_set(there, task) if layer.layer in LAYERS]
    statistics = _on_test_set(task)
    rows = [row for layer in layers for row in _rows(layer, statistics, task)]
    table = grid(list(rows[0]), [[_text(value) for value in row.values()] for row in rows])
    named = [replace(layer, layer=LAYERS[layer.layer]) for layer in layers]
    images = [row for layer in named for row in image_rows(run, layer, task)]
    contents = [
        to_png(draw_images(named, task), [f"VGG13, {task.name}", *warnings], about),
        to_csv(images, about).encode(),
        to_csv(rows, about).encode(),
        _page(table, task, warnings, about).encode(),
    ]
    files = dict(zip(vgg13_files(stem), contents, strict=True))
    return "\n\n".join([*warnings, table]), write_files(store.folder, files)


def _on_test_set(task: Task) -> Statistics:
    parts = [image_statistics(task.test.images[start : start + 512]) for start in range(0, len(task.test), 512)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(layer: LayerGates, statistics: Statistics, task: Task) -> list[dict[str, Any]]:
    """Return one line per mode: its use, and what tells it from the whole test set."""
    classes = replace(layer, source=np.asarray(task.test.labels), sources=task.class_names)
    information, entropy = _of_classes(classes)
    distances = {name: apart(layer.gates, values) for name, values in statistics.items()}
    highest = [layer.highest(k, IMAGES) for k in range(layer.gates.shape[1])]
    return [
        {
            "norm after": LAYERS[layer.layer],
            "mode": k + 1,
            "mean gate": float(layer.gates[:, k].mean()),
            **{f"{name}, all images": float(found[k]) for name, found in distances.items()},
            **{
                f"{name}, the {IMAGES} shown": float(apart(np.eye(len(values))[chosen].sum(axis=0)[:, None], values)[0])
                for name, values in statistics.items()
                for chosen in [highest[k]]
            },
            "nats of the class": information,
            "at most": min(float(np.log(layer.gates.shape[1])), entropy),
        }
        for k in range(layer.gates.shape[1])
    ]


def _of_classes(layer: LayerGates) -> tuple[float, float]:
    """Return `information` over the classes that the test set has."""
    present = np.unique(layer.source)
    index = np.searchsorted(present, layer.source)
    return replace(layer, source=index, sources=tuple(layer.sources[i] for i in present)).information()


def _text(value: object) -> str:
    if isinstance(value, float):
        return NONE if math.isnan(value) else f"{value:.3f}"
    return str(value)


def _page(table: str, task: Task, warnings: Sequence[str], about: Mapping[str, str]) -> str:
    text = (
        "What do the modes of the norms after conv3-64-1 and conv3-256-1 take? In the paper the first tell red images "
        "from blue ones, the second small objects from large ones. Measured over the test set, at the end of the first "
        "seed's run: by how many standard deviations the gate-weighted mean of a measure over a mode lies above its "
        f"mean over all images, and the same for the {IMAGES} images of highest gate that the picture shows. *Red over "
        "blue* is mean red minus mean blue. *Object size* is the share of the pixels whose colour is further than "
        f"{APART} from the median colour of the outer {FRAME} pixels. Last, how many nats a mode drawn by the gates "
        "tells of the class, and the most it could. A mode whose gates are all 0 has no mean."
    )
    head = [f"# Figure 2: what the modes of VGG13 find in {task.name}", *(f"**{line}**" for line in warnings)]
    return "\n\n".join([*head, text, table, "## Where it comes from", as_list(about)]) + "\n"
