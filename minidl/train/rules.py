"""By what rules a run moves its network: the optimiser, the learning rate over time, and settings without effect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..adam import Adam, AdamW
from ..layers.base import Layer
from ..optim import SGD
from ..schedule import CosineSchedule, Schedule, StepSchedule, Warmup
from .span import ConfigError, Span

if TYPE_CHECKING:
    from .recipes import Config

OPTIMISERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine")

# Fields that some choices alone make use of, and whose: {field: (field of the choice, choices)}
_BELONGS = {
    "modes": ("norm", ("mn", "mgn")),
    "groups": ("norm", ("gn",)),
    "per_mode_affine": ("norm", ("mn",)),
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
    ):
        if not holds:
            value = getattr(config, field)
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise ConfigError(f"--{field.replace('_', '-')} must {rule}, got {shown}; try {cure}")
    if config.nesterov and config.optimiser == "sgd" and config.momentum == 0:
        raise ConfigError("--nesterov must be used with a momentum, got --momentum 0; try --momentum 0.9")
    if config.warmup is not None:
        Span.parse(config.warmup)


def usual(optimiser: str) -> dict[str, float]:
    """Return the settings that usually go with an optimiser, in place of a recipe's, which are SGD's.

    >>> usual("adamw")
    {'lr': 0.001, 'weight_decay': 0.01}
    """
    return {"adam": {"lr": 1e-3, "weight_decay": 0.0}, "adamw": {"lr": 1e-3, "weight_decay": 0.01}}.get(optimiser, {})


def ignored(config: Config, *usual: Config) -> list[str]:
    """Return a line for each setting that is none of the usual ones and that the other settings make no use of.

    >>> from minidl.train import Config
    >>> ignored(Config(norm="bn", modes=7), Config())
    ['--modes 7 is ignored: --norm bn has no use for it, mn and mgn have']
    """
    lines = []
    for field, (choice, users) in _BELONGS.items():
        chosen, value = getattr(config, choice), getattr(config, field)
        if chosen in users or ":" in chosen or value in ((), *(getattr(one, field) for one in usual)):
            continue
        flag, given = (f"--{name.replace('_', '-')}" for name in (field, choice))
        shown = "" if value is True else " " + (",".join(map(str, value)) if isinstance(value, tuple) else str(value))
        have = f"{' and '.join(users)} {'has' if len(users) == 1 else 'have'}"
        lines.append(f"{flag}{shown} is ignored: {given} {chosen} has no use for it, {have}")
    return lines


def make_optimiser(config: Config, model: Layer, optimiser: Any = None) -> Any:
    """Return the optimiser that the configuration describes, or `optimiser`: as it is, or made for the network.

    Raises
    ------
    ConfigError
        If it lacks one of lr, step, zero_grad, state and load_state, or its rate is not the configuration's.
    """
    if optimiser is None:
        if config.optimiser == "sgd":
            return SGD(model, config.lr, config.momentum, config.weight_decay, config.nesterov)
        kind = Adam if config.optimiser == "adam" else AdamW
        return kind(model, config.lr, (config.betas[0], config.betas[1]), config.eps, config.weight_decay)
    made = optimiser if hasattr(optimiser, "step") and not isinstance(optimiser, type) else optimiser(model)
    if missing := [name for name in ("lr", "step", "zero_grad", "state", "load_state") if not hasattr(made, name)]:
        raise ConfigError(f"optimiser: {type(made).__name__} must have {', '.join(missing)}; see minidl.SGD")
    if made.lr != config.lr:
        raise ConfigError(
            f"optimiser: its lr must be the configuration's, which the schedule starts from, "
            f"got {made.lr} and {config.lr}; give both the same"
        )
    return made


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
