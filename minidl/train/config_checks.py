"""What a configuration may hold: the kind of each field, its bounds, and which fields go together."""

from __future__ import annotations

import difflib
import math
import operator
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..arguments import shown
from ..auto import WAYS
from ..backend import NAMES as BACKENDS
from ..backend import VARIABLE, named_by
from ..data import TASKS
from ..data.image_files import CORRUPT
from ..data.multitask import OWN
from ..files import NoHomeError, expanded
from ..models import MODELS
from ..norm import NORMS
from ..norm.gate_input import GATE_INPUTS
from . import rules
from .span import LONGEST, ConfigError, Span

if TYPE_CHECKING:
    from .config import Config

_MOST_NORMS = 10_000

AUGMENTATIONS = ("none", "flip-crop", "resized-crop")
PLACES = ("all", "first")  # which norms of a network are the one asked for; the others are BN

_WHOLE = (
    *("image_size", "groups", "batch_size", "seed", "device", "threads", "max_modes"),
    *("eval_every", "checkpoint_every", "log_every", "ranks"),
)
_REAL = (
    *("norm_momentum", "lr", "momentum", "weight_decay", "drop_factor", "eps", "label_smoothing", "test_share"),
    *("auto_strength", "auto_threshold", "gate_lr", "gate_weight_decay", "gate_temperature"),
)
_PATHS = ("data_dir", "start_from", "tensorboard")
_TEXT = (
    *("norm_at", "corrupt", "model", "task", "norm", "length", "augment", "dtype", "backend", "rarer"),
    *("optimiser", "schedule", "warmup", "auto_by", "auto_window", "auto_until", "gate_input"),
)

# Fields that take one of a few names; a model or a norm may also be one of one's own, "my_module:MyNet".
_CHOICES: dict[str, Iterable[str | None]] = {
    "model": MODELS,
    "task": TASKS,
    "norm": NORMS,
    "norm_at": PLACES,
    "augment": AUGMENTATIONS,
    "corrupt": CORRUPT,
    "dtype": ("float32", "float64"),
    "optimiser": rules.OPTIMISERS,
    "auto_by": WAYS,
    "gate_input": GATE_INPUTS,
    "schedule": rules.SCHEDULES,
    "backend": (None, *BACKENDS),
}
_AT_LEAST = {
    1: (
        *("modes", "max_modes", "groups", "batch_size", "image_size"),
        *("eval_every", "checkpoint_every", "log_every", "threads", "ranks"),
    ),
    0: ("seed", "device"),
}
_AT_MOST = {  # more than any network or machine has use for, and far less than what fills the memory at once
    10_000: ("modes", "max_modes"),
    65_536: ("groups", "image_size", "device", "threads", "ranks"),
    2**31 - 1: ("batch_size",),
    LONGEST: ("eval_every", "checkpoint_every", "log_every"),
    2**128 - 1: ("seed",),
}


def check(config: Config) -> None:
    """Raise ConfigError unless each field, and all of them together, can be used."""
    for field, known in _CHOICES.items():
        value = getattr(config, field)
        own = field in ("model", "norm") and isinstance(value, str) and all(value.split(":", 1)) and ":" in value
        if value not in known and not own:
            raise ConfigError(_unknown(field, value, known))
    for least, names in _AT_LEAST.items():
        for field in names:
            value = getattr(config, field)
            if value not in (None, "auto") and min(each(value), default=least - 1) < least:
                cure = f"give a whole number from {least} up"
                raise ConfigError(f"{_flag(field)} must be at least {least}, got {_listed(value)}; {cure}")
    for most, names in _AT_MOST.items():
        for field in names:
            value = getattr(config, field)
            if value not in (None, "auto") and max(each(value), default=0) > most:
                raise ConfigError(f"{_flag(field)} must be at most {most}, got {_listed(value)}; lower it")
    if isinstance(config.modes, tuple) and len(config.modes) > _MOST_NORMS:
        raise ConfigError(f"--modes must be at most {_MOST_NORMS} numbers, got {len(config.modes)}; one for each norm")
    for field in _PATHS:
        if getattr(config, field) == "":
            raise ConfigError(f"{_flag(field)} must be a path, got ''; . is the folder you are in")
    if config.rarer is not None:
        parse_rarer(config.rarer)
    for field, holds, rule, cure in (
        ("lr", 0 < config.lr < math.inf, "be positive and finite", "try 0.1"),
        ("momentum", 0 <= config.momentum < 1, "lie in [0, 1)", "try 0.9"),
        ("weight_decay", 0 <= config.weight_decay < math.inf, "be at least 0 and finite", "try 1e-4"),
        ("norm_momentum", 0 < config.norm_momentum <= 1, "lie in (0, 1]", "try 0.1"),
        ("drop_factor", 0 < config.drop_factor < math.inf, "be positive and finite", "try 0.1"),
        ("test_share", 0 < config.test_share < 1, "lie in (0, 1)", "try 0.2"),
    ):
        if not holds:
            raise ConfigError(f"{_flag(field)} must {rule}, got {getattr(config, field)}; {cure}")
    _check_together(config)
    _check_length(config)
    rules.check(config)


def _check_together(config: Config) -> None:
    """Raise ConfigError where one field does not go with another."""
    if config.rarer is not None and config.task in ("imagenet", *OWN):
        raise ConfigError(
            f"--rarer takes a dataset of a task, {config.task} has one alone, got {config.rarer}; leave it out"
        )
    if config.batch_size < config.ranks:
        raise ConfigError(
            f"--batch-size must be at least {config.ranks}, an image for each process, got {config.batch_size}; "
            "raise it, or start fewer processes"
        )
    if config.ranks > 1 and config.modes == "auto":
        raise ConfigError(
            f"--modes auto looks at whole batches, {config.ranks} processes share each; give a number, or start one"
        )
    if config.augment != "none" and (config.augment == "resized-crop") != (config.task == "imagenet"):
        raise ConfigError(
            f"--augment {config.augment} does not go with {config.task}; imagenet takes resized-crop, others flip-crop"
        )
    if config.data_dir is not None and config.sample:
        raise ConfigError("--data-dir and --sample exclude each other; give one of them")


def _check_length(config: Config) -> None:
    """Raise ConfigError unless the run has a length, and its learning rate stays above zero."""
    length = Span.parse(config.length)
    if length.unit == "share" or length.amount <= 0:
        raise ConfigError(
            f"the length of a run must be positive and in epochs, updates or touches, got {config.length}; "
            "give --epochs, --updates or --touches"
        )
    for drop in config.lr_drops:
        Span.parse(drop)
    try:
        last = config.lr * config.drop_factor ** len(config.lr_drops)
    except OverflowError:
        last = math.inf
    if not 0 < last < math.inf:
        raise ConfigError(
            f"--drop-factor must leave the rate positive and finite, got {config.drop_factor} for "
            f"{len(config.lr_drops)} drops of {config.lr}; try 0.1"
        )


def typed(name: str, value: Any, default: Any) -> Any:
    """Return a field's value in Python's own types, NumPy's numbers included; ConfigError if it is of another kind."""
    if value is None and default is None:
        return None
    if name in _PATHS and isinstance(value, str) and value.startswith("~"):
        return _at_home(name, value)
    try:
        if name in _PATHS:
            return os.fspath(value)
        if name == "modes" and isinstance(value, str) and value == "auto":
            return value
        if name == "modes" and not hasattr(value, "__index__"):
            return tuple(operator.index(_no_bool(one)) for one in value)
        if name == "modes" or name in _WHOLE:
            return operator.index(_no_bool(value))
        if name == "betas":
            return tuple(float(_no_bool(operator.pos(one))) for one in value)
        if name in _REAL:
            return float(_no_bool(operator.pos(value)))
        if name == "lr_drops":
            return tuple(_text(one) for one in ((value,) if isinstance(value, str) else value))
        if name in _TEXT:
            return _text(value)
        return bool(operator.index(value))
    except (TypeError, ValueError, OverflowError) as error:
        if name in ("norm", "model") and callable(value):
            raise ConfigError(_named(name, value)) from error
        kind = "a whole number" if name == "modes" or name in _WHOLE else "a number" if name in _REAL else None
        kind = kind or ("true or false" if isinstance(default, bool) else "text")
        raise ConfigError(f"{_flag(name)} must be {kind}, got {shown(value)}; such as {default!r}") from error


def _named(name: str, value: Any) -> str:
    """Return that a class or a function is to be named, not given."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    text = f"{kind.__module__}:{kind.__qualname__}"
    model = ", or give the network itself: Trainer(config, model=...)" if name == "model" else ""
    return f"{_flag(name)} must be the name of what makes it, got {shown(value)}; write {name}={text!r}{model}"


def _at_home(name: str, path: str) -> str:
    """Return a path with its ``~`` replaced; ConfigError if it is the home of nobody."""
    try:
        return os.fspath(expanded(path))
    except NoHomeError as error:
        raise ConfigError(f"{_flag(name)} {error}") from error


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def each(value: int | tuple[int, ...] | str) -> tuple[int, ...]:
    """Return numbers that are given as one or as several."""
    return value if isinstance(value, tuple) else (int(value),)


def parse_rarer(text: str) -> tuple[str, int]:
    """Return the dataset and the factor of a `rarer` field.

    Examples
    --------
    >>> parse_rarer("svhn/10")
    ('svhn', 10)
    """
    if not (match := re.fullmatch(r"([\w-]+)/([1-9]\d{0,8})", text)):
        raise ConfigError(f"--rarer must be a dataset and how many times rarer it is, got {shown(text)}; write svhn/10")
    return match[1], int(match[2])


def _listed(value: int | tuple[int, ...] | str) -> str:
    return ",".join(shown(number) for number in each(value)[:8])


def _unknown(what: str, name: str, known: Iterable[str | None]) -> str:
    names = [each for each in known if each is not None]
    near = difflib.get_close_matches(name[:100], names, n=1)
    hint = f"did you mean {near[0]!r}? Choose" if near else "choose"
    own = f"; one of your own is my_module:My{'Norm' if what == 'norm' else 'Net'}" if what in ("norm", "model") else ""
    if what == "task" and os.path.exists(name):
        own = f"; your own images are the task folder, with --data-dir {name}"
    if what == "backend" and named_by(name) == VARIABLE:
        own = f"; {VARIABLE} names it"
    return f"unknown {what} {shown(name)}; {hint} from {', '.join(names)}{own}"


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")
