"""By what rules a run moves its network: the optimiser, the learning rate over time, and settings without effect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adam import Adam, AdamW
from ..auto import AutoModes
from ..layers.base import Layer
from ..optim import SGD
from ..schedule import CosineSchedule, Schedule, StepSchedule, Warmup
from .span import ConfigError, Span

if TYPE_CHECKING:
    from .config import Config

OPTIMISERS = ("sgd", "adam", "adamw")
MODAL = ("mn", "mgn")  # norms with modes
SCHEDULES = ("constant", "step", "cosine")

# What a norm of one's own may be made with; the gates' own settings are those of whatever parameters are gates'.
_OPTIONS = {
    "norm_momentum": "momentum",
    "modes": "num_modes",
    "groups": "num_groups",
    "per_mode_affine": None,
    "gate_input": None,
    "gate_temperature": None,
}

# Fields that some choices alone make use of, and whose: {field: (field of the choice, choices)}
_BELONGS = {
    "norm_momentum": ("norm", ("bn", "mn")),
    "modes": ("norm", MODAL),
    "groups": ("norm", ("gn",)),
    "per_mode_affine": ("norm", ("mn",)),
    "max_modes": ("modes", ("auto",)),
    "auto_by": ("modes", ("auto",)),
    "auto_threshold": ("modes", ("auto",)),
    "auto_window": ("modes", ("auto",)),
    "auto_until": ("modes", ("auto",)),
    "auto_strength": ("auto_by", ("entropy",)),
    "gate_input": ("norm", ("mn",)),
    "gate_lr": ("norm", ("mn", "mgn")),
    "gate_weight_decay": ("norm", ("mn", "mgn")),
    "gate_temperature": ("norm", ("mn",)),
    "momentum": ("optimiser", ("sgd",)),
    "nesterov": ("optimiser", ("sgd",)),
    "betas": ("optimiser", ("adam", "adamw")),
    "eps": ("optimiser", ("adam", "adamw")),
    "lr_drops": ("schedule", ("step",)),
    "drop_factor": ("schedule", ("step",)),
}


def check(config: Config) -> None:
    """Raise ConfigError unless the fields that these rules are made of can be used."""
    for field, holds, rule, cure in (
        (
            "betas",
            len(config.betas) == 2 and all(0 <= beta < 1 for beta in config.betas),
            "be two in [0, 1)",
            "0.9,0.999",
        ),
        ("eps", 0 < config.eps < math.inf, "be positive and finite", "1e-8"),
        ("label_smoothing", 0 <= config.label_smoothing < 1, "lie in [0, 1)", "0.1"),
        ("auto_strength", 0 <= config.auto_strength < math.inf, "be at least 0 and finite", "0.01"),
        ("auto_threshold", 0 <= config.auto_threshold < 1, "lie in [0, 1)", "0.05"),
        ("gate_lr", 0 <= config.gate_lr < math.inf, "be at least 0 and finite", "0.1"),
        ("gate_weight_decay", 0 <= (config.gate_weight_decay or 0) < math.inf, "be at least 0 and finite", "1e-3"),
        ("gate_temperature", 0 < config.gate_temperature < math.inf, "be positive and finite", "2"),
    ):
        if not holds:
            value = getattr(config, field)
            raise ConfigError(f"--{field.replace('_', '-')} must {rule}, got {_shown(value)}; try {cure}")
    if config.nesterov and config.optimiser == "sgd" and config.momentum == 0:
        raise ConfigError("--nesterov must be used with a momentum, got --momentum 0; try --momentum 0.9")
    if config.modes == "auto" and config.norm != "mn" and ":" not in config.norm:
        raise ConfigError(
            f"--modes auto must go with --norm mn, whose gates can be 0, got --norm {config.norm}; give a number"
        )
    for span in (config.warmup, config.auto_window, config.auto_until):
        if span is not None:
            Span.parse(span)


def usual(optimiser: str) -> dict[str, float]:
    """Return the settings that usually go with an optimiser, in place of a recipe's, which are SGD's.

    >>> usual("adamw")
    {'lr': 0.001, 'weight_decay': 0.01}
    """
    return {"adam": {"lr": 1e-3, "weight_decay": 0.0}, "adamw": {"lr": 1e-3, "weight_decay": 0.01}}.get(optimiser, {})


def used(field: str, norm: str) -> bool:
    """Whether a norm, or one of one's own for all that is known, makes use of a setting.

    >>> used("groups", "gn"), used("groups", "bn"), used("model", "bn")
    (True, False, True)
    """
    choice, users = _BELONGS.get(field, ("", ()))
    return choice != "norm" or norm in users or ":" in norm


def ignored(config: Config, *usual: Config) -> list[str]:
    """Return a line for each setting that is none of the usual ones and that the other settings make no use of.

    >>> from minidl.train import Config
    >>> ignored(Config(norm="bn", modes=7), Config())
    ['--modes 7 is ignored: --norm bn has no use for it, mn and mgn have']
    """
    from .named import is_named, norm_takes

    lines = []
    for field, (choice, users) in _BELONGS.items():
        chosen, value = _shown(getattr(config, choice)), getattr(config, field)
        if field == "norm_momentum" and config.norm_at == "first":  # of the others, which are BN
            continue
        if chosen in users or value in ((), *(getattr(one, field) for one in usual)):
            continue
        if choice == "norm" and is_named(chosen):
            option = _OPTIONS.get(field, "")
            if option == "" or (option and norm_takes(chosen, option)) or value == "auto":
                continue
            users = (*users, f"one of one's own that is made with {option}") if option else users
        flag, given = (f"--{name.replace('_', '-')}" for name in (field, choice))
        shown = "" if value is True else f" {_shown(value)}"
        have = f"{' and '.join(users)} {'has' if len(users) == 1 else 'have'}"
        lines.append(f"{flag}{shown} is ignored: {given} {chosen} has no use for it, {have}")
    return lines


def _shown(value: Any) -> str:
    """Return a value as a flag takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def make_auto(
    config: Config, model: Layer, optimiser: Any, plan: dict[str, Any], dropout: np.random.Generator
) -> AutoModes | None:
    """Return what finds the number of modes while a network trains; None where the number is given.

    Raises
    ------
    ConfigError
        If the network has no mode norm, or the optimiser cannot follow.
    """
    if config.modes != "auto":
        return None
    window, until = (
        Span.parse(span).updates(plan["updates_per_epoch"], config.batch_size, plan["updates"])
        for span in (config.auto_window, config.auto_until)
    )
    numbers = config.auto_threshold, config.auto_strength, config.max_modes, config.seed
    try:
        return AutoModes(model, optimiser, config.auto_by, window, until, *numbers, dropout)
    except ValueError as error:
        raise ConfigError(f"--modes auto: {error}") from error


def check_given(config: Any, task: Any, model: Any, optimiser: Any) -> None:
    """Raise ConfigError unless what `Trainer` is given is of the kinds that it takes."""
    from ..data import Task
    from .config import Config

    if not isinstance(config, Config):
        raise ConfigError(f"Trainer: config must be a Config, got {_kind(config)}; give recipe('lenet', 'mnist')")
    if task is not None and not isinstance(task, Task):
        raise ConfigError(
            f"Trainer: task must be a Task, got {_kind(task)}; give minidl.data.load_task(...) or arrays_task(...), or "
            "a configuration that names the task"
        )
    of_torch = type(model).__module__.startswith("torch") or hasattr(model, "state_dict")
    if model is not None and (of_torch or not (isinstance(model, Layer) or callable(model))):
        raise ConfigError(
            f"Trainer: model must be a minidl.Layer, or a function or class that makes one, got {_kind(model)}; give "
            "that, or leave it out and name the network in the configuration"
        )
    if optimiser is not None and not (hasattr(optimiser, "step") or callable(optimiser)):
        raise ConfigError(
            f"Trainer: optimiser must be one such as minidl.SGD, or a function of the model that makes one, got "
            f"{_kind(optimiser)}; give lambda model: minidl.SGD(model, lr=config.lr), or leave it out and name it in "
            "the configuration"
        )


def _kind(thing: Any) -> str:
    """Return what something is: None, a text or a number itself, else its type."""
    return repr(thing) if thing is None or isinstance(thing, str | int | float) else type(thing).__name__


def make_optimiser(config: Config, model: Layer, optimiser: Any = None) -> Any:
    """Return the optimiser that the configuration describes, or `optimiser`: as it is, or made for the network.

    Raises
    ------
    ConfigError
        If it lacks one of lr, step, zero_grad, state and load_state, its rate is not the configuration's, or it is of
        another network.
    """
    if optimiser is None:
        gates = {"lr": config.gate_lr} if config.gate_lr != 1 else {}
        gates |= {} if config.gate_weight_decay is None else {"weight_decay": config.gate_weight_decay}
        groups = {"gate.": gates} if gates else None
        if config.optimiser == "sgd":
            return SGD(model, config.lr, config.momentum, config.weight_decay, config.nesterov, groups)
        kind = Adam if config.optimiser == "adam" else AdamW
        return kind(model, config.lr, (config.betas[0], config.betas[1]), config.eps, config.weight_decay, groups)
    if hasattr(optimiser, "step") and not isinstance(optimiser, type):
        made = optimiser
    else:
        try:
            made = optimiser(model)
        except Exception as error:
            from .named import where

            raise ConfigError(
                f"optimiser: it cannot be made for the network: {where(error, last=False)}; give a function of "
                "the network alone, such as lambda model: minidl.SGD(model, lr=0.1)"
            ) from error
    if missing := [name for name in ("lr", "step", "zero_grad", "state", "load_state") if not hasattr(made, name)]:
        raise ConfigError(f"optimiser: {type(made).__name__} must have {', '.join(missing)}; see minidl.SGD")
    if made.lr != config.lr:
        raise ConfigError(
            f"optimiser: its lr must be the configuration's, which the schedule starts from, "
            f"got {made.lr} and {config.lr}; give both the same"
        )
    if not _moves(made, model):
        raise ConfigError(
            f"optimiser: its parameters are not those of the network, which it would not train; give lambda model: "
            f"{type(made).__name__}(model, ...), which is called with the network"
        )
    return made


def _moves(optimiser: Any, model: Layer) -> bool:
    """Whether an optimiser's zero_grad reaches the gradients of a network, or of a part of it; they are zero after."""
    grads = [(layer, name) for _, layer in model.named_layers() for name in layer.grads]
    for layer, name in grads:
        layer.grads[name][...] = 1
    optimiser.zero_grad()
    reached = [not layer.grads[name].any() for layer, name in grads]
    for layer, name in grads:
        layer.grads[name][...] = 0
    return any(reached) or not any(layer.grads[name].size for layer, name in grads)


def make_schedule(config: Config, plan: dict[str, Any]) -> Schedule:
    """Return the learning rate as a function of the updates done."""
    schedule: Schedule
    if config.schedule == "cosine":
        schedule = CosineSchedule(config.lr, plan["updates"])
    else:
        schedule = StepSchedule(config.lr, plan["lr_drops_after_updates"], config.drop_factor)
    return Warmup(schedule, plan["warmup_updates"]) if plan.get("warmup_updates") else schedule


def describe_schedule(config: Config, plan: dict[str, Any]) -> str:
    """Return how the learning rate goes over the run, in words."""
    words = f"lr {config.lr:g}"
    if config.schedule == "step":
        drops = ", ".join(map(str, plan["lr_drops_after_updates"])) or "none"
        words += f" x{config.drop_factor:g} after updates {drops}"
    else:
        words += f" {config.schedule}"
    if plan.get("warmup_updates"):
        words += f", warmed up over {plan['warmup_updates']} updates"
    return words if config.optimiser == "sgd" else f"{config.optimiser}, {words}"
