"""Write modes.json, what the page to explore shows: `python docs/play/make_modes.py --data-dir DIR`.

Two kinds of runs are in it. The paper's are the committed figure2-*.csv of docs/results: which test images have the
highest gates, and what each mode takes of each dataset; their pixels come from the datasets' files in DIR. The short
ones are trained here on the bundled sample, a few seconds each, with the gates of the test images after every epoch.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from minidl import ModeNorm
from minidl.backend import to_device, to_host
from minidl.data import Task, load_task
from minidl.reproduce.figure2 import IMAGES
from minidl.reproduce.gates import LayerGates
from minidl.train import Trainer, build, recipe

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
ACROSS = 32  # tiles in a row of the sheet
PLACES = ("after the first convolution", "after the second convolution")
SHORT = [  # network, modes, momentum
    ("lenet", 2, 0.9),
    ("lenet", 4, 0.9),
    ("lenet", 6, 0.9),
    ("lenet1989", 2, 0.9),
    ("lenet1989", 4, 0.9),
    ("lenet", 2, 0.0),
]
NETWORKS = {"lenet": "LeNet", "lenet1989": "the network of 1989"}


class Sheet:
    """All images in one picture, each once."""

    def __init__(self) -> None:
        self.tiles: dict[bytes, int] = {}

    def number(self, image: np.ndarray) -> int:
        """Return the number of an image (3, 32, 32) in the sheet."""
        return self.tiles.setdefault(np.ascontiguousarray(image).tobytes(), len(self.tiles))

    def to_url(self) -> str:
        """Return the sheet as a data URL."""
        sheet = np.zeros((-(-len(self.tiles) // ACROSS) * 32, ACROSS * 32, 3), np.uint8)
        for tile, i in self.tiles.items():
            row, column = divmod(i, ACROSS)
            pixels = np.frombuffer(tile, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
            sheet[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] = pixels
        out = io.BytesIO()
        Image.fromarray(sheet).save(out, "webp", quality=88, method=6)
        return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def paper_runs(task: Task, sheet: Sheet) -> Iterator[dict[str, Any]]:
    """Yield the runs of Table 1 that docs/results/figure2-*.csv describe."""
    shares, images = (list(_rows(RESULTS / f"figure2-{part}.csv")) for part in ("datasets", "images"))
    for norm in dict.fromkeys(row["norm"] for row in shares):
        layers = []
        for place, layer in zip(PLACES, dict.fromkeys(row["layer"] for row in shares), strict=True):
            modes = []
            for mode in dict.fromkeys(r["mode"] for r in shares if (r["norm"], r["layer"]) == (norm, layer)):
                own = {"norm": norm, "layer": layer, "mode": mode}
                of_mode, taken = ([row for row in rows if own.items() <= row.items()] for rows in (shares, images))
                modes.append(
                    {
                        "mean": [round(float(row["mean_gate"]), 4) for row in of_mode],
                        "taken": [round(float(row["share_with_highest_gate"]), 4) for row in of_mode],
                        "images": [
                            [sheet.number(task.test.images[int(row["test_image"])]), row["class"], float(row["gate"])]
                            for row in taken
                        ],
                    }
                )
            layers.append({"place": place, "modes": modes})
        yield {
            "network": "LeNet, all of the data",
            "norm": norm,
            "what": "The run of Table 1 with seed 0: 15 epochs of the four datasets, without momentum.",
            "layers": layers,
        }


def short_run(network: str, modes: int, momentum: float, sheet: Sheet) -> dict[str, Any]:
    """Train on the bundled sample and return the run, with the mean gates over each dataset after each epoch."""
    config = replace(
        recipe("lenet", "multitask"), model=network, modes=modes, momentum=momentum, sample=True, backend="numba"
    )
    trainer = Trainer(config, quiet=True)
    epochs = [_gates(trainer)]
    for step in range(trainer.total // 15, trainer.total + 1, trainer.total // 15):
        trainer.run(until=step)
        epochs.append(_gates(trainer))
    test = trainer.task.test
    layers = []
    for i, place in enumerate(PLACES):
        last = epochs[-1][i]
        course = np.stack([epoch[i].means() for epoch in epochs])  # (epochs, datasets, K)
        layers.append(
            {
                "place": place,
                "modes": [
                    {
                        "mean": last.means()[:, k].round(4).tolist(),
                        "taken": last.chosen()[:, k].round(4).tolist(),
                        "images": [
                            [
                                sheet.number(test.images[j]),
                                trainer.task.class_names[test.labels[j]],
                                round(float(last.gates[j, k]), 4),
                            ]
                            for j in last.highest(k, IMAGES)
                        ],
                        "course": course[:, :, k].T.round(4).tolist(),
                    }
                    for k in range(modes)
                ],
            }
        )
    error = trainer.history[-1]["test_error"]
    return {
        "network": f"{NETWORKS[network]}, the bundled sample" + ("" if momentum else ", without momentum"),
        "norm": f"MN K={modes}",
        "what": f"A short run: 15 epochs of the 4600 bundled images with seed 0 and momentum {momentum:g}. "
        f"Its test error is {error:.1f} %.",
        "layers": layers,
    }


def _gates(trainer: Trainer) -> list[LayerGates]:
    """Return the gates of every mode norm over the test images, as minidl.reproduce.gates does from a checkpoint."""
    model, test = trainer.model, trainer.task.test
    norms = {path: layer for path, layer in model.named_layers() if isinstance(layer, ModeNorm)}
    taken: dict[str, list[np.ndarray]] = {path: [] for path in norms}
    _, batches = build.make_loaders(trainer.config, trainer.task, np.random.default_rng(0))
    was = model.training
    model.eval()
    for x, _, _ in batches:
        model.forward(to_device(x))
        for path, layer in norms.items():
            taken[path].append(to_host(layer.gates))
    model.train(was)
    return [LayerGates(path, np.concatenate(g), np.asarray(test.source), test.sources) for path, g in taken.items()]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def main() -> None:
    """Write modes.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True, help="the folder with the files of the four datasets")
    task = load_task("multitask", data_dir=parser.parse_args().data_dir)
    sheet = Sheet()
    runs = [*paper_runs(task, sheet), *(short_run(*settings, sheet) for settings in SHORT)]
    made = {"datasets": ["MNIST", "CIFAR-10", "SVHN", "Fashion-MNIST"], "across": ACROSS, "runs": runs}
    text = json.dumps(made | {"sheet": sheet.to_url()}, ensure_ascii=False, separators=(",", ":"))
    (HERE / "modes.json").write_text(text + "\n", "utf-8")
    print(f"{len(runs)} runs, {len(sheet.tiles)} images, {len(text) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
