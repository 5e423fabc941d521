"""What the paper says of its single tasks (Tables 3 and 4): settings that differ from `Config`'s own defaults.

Drops of the learning rate are shares of the run, so that they scale with it: of 100 epochs 13/20, 4/5 and 9/10 are the
epochs 65, 80 and 90.
"""

from typing import Any

_CIFAR = {"augment": "flip-crop", "length": "100e"}
_CLASSIC = {"augment": "flip-crop", "length": "160e", "lr_drops": ("1/2", "3/4"), "weight_decay": 1e-4}
_SILENT = "paper, Table 3; momentum 0.9 and no weight decay are ours"

RECIPES: list[tuple[dict[str, Any], str]] = [
    *(
        ({"model": model, "task": task, **settings}, source)
        for task in ("cifar10", "cifar100")
        for model, settings, source in (
            ("nin", {**_CIFAR, "lr_drops": ("13/20", "4/5")}, _SILENT),
            ("vgg13", {**_CIFAR, "lr_drops": ("13/20", "4/5", "9/10")}, _SILENT),
            ("resnet20", _CLASSIC, "paper, Table 3, as He et al."),
            ("resnet56", _CLASSIC, "ours: that of ResNet20; the authors' code reports 28.75 % on CIFAR-100"),
        )
    ),
    (
        {
            **{"model": "resnet18", "task": "imagenet", "augment": "resized-crop", "batch_size": 256},
            **{"length": "90e", "lr_drops": ("1/3", "2/3"), "weight_decay": 1e-4},
        },
        "paper, Table 4; random resized crop and flip are ours, the paper names none",
    ),
]
"""(settings, where they come from), each with a model and a task of its own."""
