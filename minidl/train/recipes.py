"""The recipes: configurations worth naming, those of the paper first, and the folder that a run of one goes to."""

import os
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..backend import of_commands
from ..data import TASKS
from ..data.multitask import OWN
from .config import FREE_FIELDS, Config, digest
from .paper import RECIPES


@dataclass(frozen=True)
class Recipe:
    """A configuration worth naming, and where it comes from."""

    config: Config
    source: str

    def describe(self) -> str:
        """Return the recipe in one line."""
        c = self.config
        drops = ", ".join(c.lr_drops)
        return (
            f"{c.model} {c.task}: norm {c.norm} K={c.modes}, N={c.batch_size}, {c.length}, lr {c.lr} "
            f"x{c.drop_factor} at {drops}, momentum {c.momentum}, weight decay {c.weight_decay} ({self.source})"
        )


_OF_OWN: dict[str, Any] = {"image_size": 32, "batch_size": 16, "lr": 0.02, "length": "30e", "augment": "flip-crop"}


def recipes() -> list[Recipe]:
    """Return every recipe, the paper's first."""
    table1 = Recipe(Config(momentum=0.0), "paper, Table 1; no momentum and no weight decay are ours")
    one = "ours: Table 1's on one dataset, with the momentum of the paper's single tasks"
    paper = [Recipe(Config(**settings), source) for settings, source in RECIPES]
    return [
        table1,
        *paper,
        *(Recipe(Config(task=task), one) for task in TASKS if task not in ("multitask", "imagenet", *OWN)),
        *(Recipe(Config(task=task, **_OF_OWN), "ours, for some hundred images") for task in OWN),
    ]


def recipe(model: str = "lenet", task: str = "multitask") -> Config:
    """Return the configuration of the recipe for this model and task, else of LeNet's, or ResNet18's for imagenet.

    ResNet18 takes images of one's own at 224 × 224, the others at 32 × 32.

    Parameters
    ----------
    model, task : str
        As `python -m minidl.train --list` prints them.

    Examples
    --------
    >>> recipe("lenet", "multitask").length
    '15e'
    """
    config = Config(model=model, task=task)  # names the unknown one
    known = {(one.config.model, one.config.task): one.config for one in recipes()}
    others = "resnet18" if task == "imagenet" else "lenet"
    found = known.get((model, task)) or replace(known.get((others, task), config), model=model)
    return replace(found, image_size=224) if task in OWN and model == "resnet18" else found


def folder_name(config: Config) -> str:
    """Return a name for the run's folder that any two different settings have different: `name`, then the others.

    Examples
    --------
    >>> folder_name(Config(momentum=0.0, lr=0.01, length="40u"))
    'lenet-multitask-mn2-n128-seed0-lr0.01-length40u'
    """
    usual = replace(recipe(config.model, config.task), backend=config.backend)
    if config.backend != of_commands():
        usual = replace(usual, backend=None)
    named = ("model", "task", "norm", "batch_size", "seed", "rarer", "sample")
    of_mn = {"modes", "per_mode_affine"} | ({"max_modes", "auto_by"} if config.modes == "auto" else set())
    shown = {"mn": of_mn, "mgn": {"modes"}, "gn": {"groups"}}.get(config.norm, set())
    others = [
        f"{field.name.replace('_', '')}{','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field in fields(config)
        if field.name not in {*named, *FREE_FIELDS, *shown}
        and (value := getattr(config, field.name)) != getattr(usual, field.name)
    ]
    others = [re.sub(r"[^\w.,+-]", "_", text) for text in others]
    if config.task in OWN:
        others.append(f"{Path(config.data_dir or '').name}{digest({'': os.path.abspath(config.data_dir or '')})[:6]}")
    name = "-".join([config.name(), *others])
    return name if len(name) <= 120 else f"{config.name()[:90]}-{digest(config.to_json())[:16]}"
