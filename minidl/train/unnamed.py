"""What to say where a command names no model and no task."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from .record import RunError, read_config


def unnamed(args: argparse.Namespace) -> str:
    """Return the line with the cure: of the run that is to be resumed, or started from."""
    if args.resume:
        run = shlex.quote(str(args.model)) if args.model is not None and Path(args.model).is_dir() else "runs/NAME"
        return f"--resume must go with the run's folder; give it: --out {run} --resume"
    if args.start_from is not None:
        named = f"{_named(args.start_from)} --from {shlex.quote(str(args.start_from))}"
        return f"--from gives the weights alone; give the model and the task too, such as: {named}"
    return "give a model and a task, such as: python -m minidl.train lenet multitask --sample"


def _named(run: Path) -> str:
    """Return the model, the task and the data of a run, as they are given; an example where they are not known."""
    try:
        config = read_config(run)["config"]
        words = [str(config["model"]), str(config["task"])]
    except (RunError, KeyError, TypeError):
        return "lenet folder --data-dir DIR"
    return shlex.join([*words, *(["--data-dir", str(config["data_dir"])] if config.get("data_dir") else [])])
