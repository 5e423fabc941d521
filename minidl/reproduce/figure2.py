"""The paper's Figure 2 for the multi-task LeNet: which images each mode takes, and which datasets."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data import Task
from minidl.reproduce.csv_output import to_csv
from minidl.reproduce.drawing import panels, to_png
from minidl.reproduce.gates import LayerGates, gates_on_test_set
from minidl.reproduce.markdown import LAYERS, as_list, grid
from minidl.reproduce.plan import TABLES, Run, runs
from minidl.reproduce.report import about_runs, warnings_of, write_files
from minidl.reproduce.store import Data, Store, StoredRun, run_hash
from minidl.train.plots import own_settings

IMAGES = 10  # a mode
Rows = list[dict[str, Any]]


def figure2_runs(scale: Decimal, table: str = "table1", **settings: Any) -> list[Run]:
    """Return the runs that are looked into: a table's with modes, first seed."""
    return [run for run in runs(TABLES[table], 1, scale, **settings) if run.config.norm == "mn"]


def figure2_files(planned: Sequence[Run], stem: str) -> list[str]:
    """Return the names of the files: pictures of each run, two tables and a page."""
    pictures = [f"{_picture(stem, run)}-{of}.png" for run in planned for of in ("images", "datasets")]
    return [*pictures, f"{stem}-datasets.csv", f"{stem}-images.csv", f"{stem}.md"]


def _picture(stem: str, run: Run) -> str:
    return f"{stem}-mn{run.config.modes}"


@own_settings()
def write_figure2(
    planned: Sequence[Run], store: Store, task: Task, data: Data, command: str, scale: Decimal, stem: str
) -> tuple[str, list[Path]]:
    """Write pictures, CSV and a page from the finished runs; return the page's table and the files.

    Parameters are those of `minidl.reproduce.report.write_table`, and the images.
    """
    stored = store.read()
    finished = {run: stored[run_hash(run.config, data)] for run in planned}
    about = about_runs(list(finished.values()), task.name, data, command, seeds=1)
    warnings = warnings_of(scale, data, task.name)
    files: dict[str, bytes] = {}
    summary: list[list[str]] = []
    mean_rows: Rows = []
    highest: Rows = []
    for run, there in finished.items():
        layers = gates_on_test_set(there, task)
        name = _picture(stem, run)
        title = [f"LeNet, {run.label}", *warnings]
        files[f"{name}-images.png"] = to_png(draw_images(layers, task), title, about)
        files[f"{name}-datasets.png"] = to_png(_draw_datasets(layers, there), title, about)
        summary += [_summary(run, layer) for layer in layers]
        mean_rows += [row for layer in layers for row in _mean_rows(run, layer)]
        highest += [row for layer in layers for row in image_rows(run, layer, task)]
    table = grid(["norm", "layer", "nats of the dataset that the mode tells", "at most", *task.test.sources], summary)
    files[f"{stem}-datasets.csv"] = to_csv(mean_rows, about).encode()
    files[f"{stem}-images.csv"] = to_csv(highest, about).encode()
    momentum = next(iter(finished)).config.momentum
    files[f"{stem}.md"] = _page(table, warnings, about, momentum).encode()
    return "\n\n".join([*warnings, table]), write_files(store.folder, files)


def _page(table: str, warnings: Sequence[str], about: Mapping[str, str], momentum: float) -> str:
    text = (
        "Does a mode find a dataset? The mutual information of an image's dataset and a mode drawn by its gates, over "
        "the test set: 0 if the modes do not tell datasets apart, at most the smaller of ln K and the entropy of the "
        "dataset. Then the mean gates of the modes over each dataset. At the end of the first seed's run; the question "
        "is ours, the paper's Figure 2 shows a VGG13 on CIFAR-10. " + LAYERS
    )
    of = f" with momentum {momentum:g}" if momentum else ""
    head = [f"# Figure 2{of}: what the modes of the multi-task LeNet find", *(f"**{line}**" for line in warnings)]
    return "\n\n".join([*head, text, table, "## Where it comes from", as_list(about)]) + "\n"


def _summary(run: Run, layer: LayerGates) -> list[str]:
    information, entropy = layer.information()
    most = min(np.log(layer.gates.shape[1]), entropy)
    means = [" ".join(f"{gate:.2f}" for gate in row) for row in layer.means()]
    return [run.column, layer.layer, f"{information:.3f}", f"{most:.3f}", *means]


def _mean_rows(run: Run, layer: LayerGates) -> Rows:
    means, chosen = layer.means(), layer.chosen()
    return [
        {
            "norm": run.column,
            "layer": layer.layer,
            "mode": k + 1,
            "dataset": source,
            "mean_gate": means[d, k],
            "share_with_highest_gate": chosen[d, k],
        }
        for k in range(means.shape[1])
        for d, source in enumerate(layer.sources)
    ]


def image_rows(run: Run, layer: LayerGates, task: Task) -> Rows:
    """Return a line for each of the images with the highest gates of each mode."""
    return [
        {
            "norm": run.column,
            "layer": layer.layer,
            "mode": k + 1,
            "rank": rank + 1,
            "test_image": int(i),
            "class": task.class_names[task.test.labels[i]],
            "gate": layer.gates[i, k],
        }
        for k in range(layer.gates.shape[1])
        for rank, i in enumerate(layer.highest(k, IMAGES))
    ]


def draw_images(layers: Sequence[LayerGates], task: Task) -> Any:
    """A row of images per mode, those with its highest gates."""
    rows = [(layer, k) for layer in layers for k in range(layer.gates.shape[1])]
    figure, axes = panels(len(rows), IMAGES, width=0.9, height=0.95)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for (layer, k), line in zip(rows, axes, strict=True):
        name = f"layer {layer.layer}" if layer.layer.isdigit() else layer.layer  # a longer one is as high as its row
        line[0].set_ylabel(f"{name}\nmode {k + 1}", fontsize="small")
        for ax, i in zip(line, layer.highest(k, IMAGES), strict=False):
            ax.imshow(np.moveaxis(task.test.images[i], 0, -1))
            ax.set_title(f"{layer.gates[i, k]:.3f}", fontsize="x-small", pad=2)
    return figure


def _draw_datasets(layers: Sequence[LayerGates], run: StoredRun) -> Any:
    """Above: each dataset's mean gates. Below: the use of the modes and the entropies during training."""
    figure, axes = panels(2, len(layers), width=5.6, height=3.6)
    history = run.history()
    epochs = [line["epoch"] for line in history]
    circle, square, triangle = ("o", "s", "^") if len(epochs) == 1 else (None, None, None)  # one evaluation: no line
    for layer, (above, below) in zip(layers, axes.T, strict=True):
        means = layer.means()
        modes = means.shape[1]
        width = 0.8 / len(layer.sources)
        for d, source in enumerate(layer.sources):
            above.bar(np.arange(modes) + (d - (len(layer.sources) - 1) / 2) * width, means[d], width, label=source)
        above.set_xticks(range(modes), [f"mode {k + 1}" for k in range(modes)])
        above.set(title=f"layer {layer.layer}", ylabel="mean gate", ylim=(0, 1))
        above.legend(fontsize="small", frameon=False)
        used = [line["gates"][layer.layer] for line in history]
        for k in range(modes):
            below.plot(epochs, [use["usage"][k] for use in used], color=f"C{k}", marker=circle, label=f"mode {k + 1}")
        for style, marker, name in (("k--", square, "entropy"), ("k:", triangle, "sample_entropy")):
            values = [use[name] / np.log(modes) for use in used]
            below.plot(epochs, values, style, marker=marker, label=name.replace("_", " ") + " / ln K")
        below.set(xlabel="epoch", ylabel="mean gate on the test set", ylim=(0, 1.25))  # above 1 the legend
        below.legend(fontsize="x-small", frameon=False, ncols=4, loc="upper center")
    return figure
