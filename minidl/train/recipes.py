"""What a training run is made of: its configuration, spans of training, and the recipes that fill it in."""

import difflib
import hashlib
import json
import math
import operator
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..auto import WAYS
from ..backend import NAMES as BACKENDS
from ..backend import of_commands
from ..data import TASKS
from ..data.image_files import CORRUPT
from ..data.multitask import OWN
from ..data.split import TEST_SHARE
from ..models import MODELS
from ..norm import NORMS
from ..norm.gate_input import GATE_INPUTS
from . import rules
from .paper import RECIPES
from .span import ConfigError, Span

__all__ = ["Config", "ConfigError", "Recipe", "Span", "digest", "parse_rarer", "recipe", "recipes"]

AUGMENTATIONS = ("none", "flip-crop", "resized-crop")

# Fields that change neither the numbers nor the log: a run may be resumed with others.
FREE_FIELDS = ("data_dir", "sample", "threads", "device", "checkpoint_every", "tensorboard")

# Fields that came later: left out of what identifies a run while at their defaults, so that older runs stay the same.
NEWER_FIELDS = (
    *("per_mode_affine", "rarer", "norm_at", "image_size", "corrupt"),
    *("optimiser", "nesterov", "betas", "eps", "schedule", "warmup", "label_smoothing", "log_every", "test_share"),
    *("start_from", "max_modes", "auto_by", "auto_strength", "auto_threshold", "auto_window", "auto_until"),
    *("gate_input", "gate_lr", "gate_weight_decay", "gate_temperature"),
    *("sync_norm", "ranks"),
)

PLACES = ("all", "first")  # which norms of a network are the one asked for; the others are BN


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a training run (the FREE_FIELDS do not).

    Defaults are the recipe of the paper's Table 1 with Mode Normalization, K = 2. Fields are checked when it is made.

    Parameters
    ----------
    model, task, norm : str
        Names, as `python -m minidl.train --list` prints them; for a model or a norm of one's own "my_module:MyNet".
    modes : int, tuple of int, or "auto"
        K of mn and mgn: one for all norms, or one for each in their order; of mn "auto": found while it trains.
    groups : int
        G of gn.
    per_mode_affine : bool
        Whether each mode of mn has a weight and a bias of its own (footnote 3 of the paper).
    norm_momentum : float
        Lambda, the weight of the newest batch in the running statistics.
    batch_size : int
        N. A last batch that would be smaller is left out, so every update sees N images.
    lr, weight_decay : float
        Those of the optimiser.
    momentum : float
        That of SGD.
    length : str
        How long to train: a Span in epochs, updates or touches.
    lr_drops : tuple of str
        When lr is multiplied by `drop_factor`: Spans in any unit.
    drop_factor : float
        What a drop multiplies lr by.
    augment : str
        "none", "flip-crop" (random horizontal flip; pad by 4 and crop) or, for the task imagenet, "resized-crop"
        (a random part of the image, resized; random horizontal flip).
    seed : int
        One seed gives the weights, the order of the data, augmentation and dropout.
    dtype : str
        "float32" or "float64".
    backend : str, optional
        "numpy", "cupy" or "auto"; by default what MINIDL_BACKEND says, else numpy.
    device : int, optional
        Which GPU, with cupy; the first that CUDA_VISIBLE_DEVICES leaves by default.
    eval_every, checkpoint_every : int, optional
        In updates; an epoch by default.
    log_every : int, optional
        Updates to a line of losses.jsonl; by default 50, and fewer where the run would have less than 200 lines.
    tensorboard : path, optional
        Where TensorBoard looks for runs: this one's numbers go into a folder there with the name of its own.
    threads : int, optional
        All usable cores by default.
    data_dir : path, optional
        Where the datasets' files are.
    sample : bool
        Train on the bundled sample.
    rarer : str, optional
        Make one dataset of a task rarer, such as "svhn/10": train on every tenth of its images.
    norm_at : str
        "all", or "first": the first norm alone is `norm`, the others are BN, as `--mn init` in the authors' code.
    image_size : int
        The side of the images of the tasks folder, arrays and imagenet.
    corrupt : str
        "refuse" or "skip": what to do with an image of folder or imagenet that cannot be decoded.
    optimiser : str
        "sgd", "adam" or "adamw".
    nesterov : bool
        Nesterov's momentum, of SGD.
    betas : (float, float)
        Of Adam and AdamW, as is `eps`.
    eps : float
    schedule : str
        "constant"; "step", which drops at `lr_drops`; or "cosine", which falls to 0 at the end of the run.
    warmup : str, optional
        A Span: how long the rate climbs along a line, from a tenth of the schedule's to all of it.
    label_smoothing : float
        Of the loss that is trained on; evaluations are without.
    test_share : float
        Of each class of folder or arrays, the share that is drawn as its test set where none is given.
    start_from : path, optional
        Another run, or one of its checkpoints, whose weights the network starts with.
    max_modes : int
        Of modes "auto": K at first (of `auto_by` "split" the largest K).
    auto_by : str
        How modes "auto" finds K: "entropy", "prune" or "split" (`minidl.auto`).
    auto_strength : float
        Of the penalty on the entropy of the mean gate, in nats.
    auto_threshold : float
        A mode goes whose mean gate is below it.
    auto_window, auto_until : str
        Spans: from one decision on modes to the next, and to the last one.
    gate_input : str
        What the gates of mn see: "plain" (the paper's form) or "normalised" over the batch.
    gate_lr : float
        What the learning rate is multiplied by for the gating maps.
    gate_weight_decay : float, optional
        Of the gating maps; that of the others by default.
    gate_temperature : float
        What the logits of the gates of mn are divided by.
    sync_norm : bool
        On several processes, let bn and mn normalise by the statistics of the whole batch, not of a process's part.
    ranks : int
        Processes that share each batch: as many as there are, whatever is given.

    Raises
    ------
    ConfigError
        Naming the field, the rule and the value.

    Examples
    --------
    >>> Config(norm="bn", length="3e").batch_size
    128
    >>> Config(modes=0)
    Traceback (most recent call last):
    minidl.train.span.ConfigError: --modes must be at least 1, got 0; give a whole number from 1 up
    """

    model: str = "lenet"
    task: str = "multitask"
    norm: str = "mn"
    modes: int | tuple[int, ...] | str = 2
    groups: int = 2
    per_mode_affine: bool = False
    norm_momentum: float = 0.1
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    length: str = "15e"
    lr_drops: tuple[str, ...] = ("5/7", "6/7")
    drop_factor: float = 0.1
    augment: str = "none"
    seed: int = 0
    dtype: str = "float32"
    backend: str | None = None
    device: int | None = None
    eval_every: int | None = None
    checkpoint_every: int | None = None
    threads: int | None = None
    data_dir: str | os.PathLike[str] | None = None
    sample: bool = False
    rarer: str | None = None
    norm_at: str = "all"
    image_size: int = 224
    corrupt: str = "refuse"
    optimiser: str = "sgd"
    nesterov: bool = False
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: str = "step"
    warmup: str | None = None
    label_smoothing: float = 0.0
    log_every: int | None = None
    tensorboard: str | os.PathLike[str] | None = None
    test_share: float = TEST_SHARE
    start_from: str | os.PathLike[str] | None = None
    max_modes: int = 8
    auto_by: str = "prune"
    auto_strength: float = 0.01
    auto_threshold: float = 0.05
    auto_window: str = "1/60"
    auto_until: str = "2/3"
    gate_input: str = "plain"
    gate_lr: float = 1.0
    gate_weight_decay: float | None = None
    gate_temperature: float = 1.0
    sync_norm: bool = False
    ranks: int = 1

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, _checked(each.name, getattr(self, each.name)))
        choices: tuple[tuple[str, Any, Iterable[str | None]], ...] = (
            ("model", self.model, MODELS),
            ("task", self.task, TASKS),
            ("norm", self.norm, NORMS),
            ("norm_at", self.norm_at, PLACES),
            ("augment", self.augment, AUGMENTATIONS),
            ("corrupt", self.corrupt, CORRUPT),
            ("dtype", self.dtype, ("float32", "float64")),
            ("optimiser", self.optimiser, rules.OPTIMISERS),
            ("auto_by", self.auto_by, WAYS),
            ("gate_input", self.gate_input, GATE_INPUTS),
            ("schedule", self.schedule, rules.SCHEDULES),
            ("backend", self.backend, (None, *BACKENDS)),
        )
        for field, value, known in choices:
            own = field in ("model", "norm") and isinstance(value, str) and all(value.split(":", 1)) and ":" in value
            if value not in known and not own:
                raise ConfigError(_unknown(field, value, known))
        for field in (
            *(["modes"] if self.modes != "auto" else []),
            "max_modes",
            "groups",
            "batch_size",
            "image_size",
            "eval_every",
            "checkpoint_every",
            "log_every",
            "threads",
            "ranks",
        ):
            value = getattr(self, field)
            if value is not None and min(_all(value), default=0) < 1:
                shown = ",".join(map(str, _all(value)))
                raise ConfigError(f"{_flag(field)} must be at least 1, got {shown}; give a whole number from 1 up")
        if self.rarer is not None:
            parse_rarer(self.rarer)
            if self.task in ("imagenet", *OWN):
                raise ConfigError(
                    f"--rarer takes a dataset of a task, {self.task} has one alone, got {self.rarer}; leave it out"
                )
        for field in ("seed", "device"):
            value = getattr(self, field)
            if value is not None and value < 0:
                raise ConfigError(f"{_flag(field)} must be at least 0, got {value}; give a whole number from 0 up")
        for field, holds, rule, cure in (
            ("lr", 0 < self.lr < math.inf, "be positive and finite", "try 0.1"),
            ("momentum", 0 <= self.momentum < 1, "lie in [0, 1)", "try 0.9"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "be at least 0 and finite", "try 1e-4"),
            ("norm_momentum", 0 < self.norm_momentum <= 1, "lie in (0, 1]", "try 0.1"),
            ("drop_factor", 0 < self.drop_factor < math.inf, "be positive and finite", "try 0.1"),
            ("test_share", 0 < self.test_share < 1, "lie in (0, 1)", "try 0.2"),
        ):
            if not holds:
                raise ConfigError(f"{_flag(field)} must {rule}, got {getattr(self, field)}; {cure}")
        if self.batch_size < self.ranks:
            raise ConfigError(
                f"--batch-size must be at least {self.ranks}, an image for each process, got {self.batch_size}; "
                "raise it, or start fewer processes"
            )
        if self.ranks > 1 and self.modes == "auto":
            raise ConfigError(
                f"--modes auto looks at whole batches, {self.ranks} processes share each; give a number, or start one"
            )
        if self.augment != "none" and (self.augment == "resized-crop") != (self.task == "imagenet"):
            raise ConfigError(
                f"--augment {self.augment} does not go with {self.task}; imagenet takes resized-crop, others flip-crop"
            )
        if self.data_dir is not None and self.sample:
            raise ConfigError("--data-dir and --sample exclude each other; give one of them")
        length = Span.parse(self.length)
        if length.unit == "share" or length.amount <= 0:
            raise ConfigError(
                f"the length of a run must be positive and in epochs, updates or touches, got {self.length}; "
                "give --epochs, --updates or --touches"
            )
        for drop in self.lr_drops:
            Span.parse(drop)
        rules.check(self)
        try:
            last = self.lr * self.drop_factor ** len(self.lr_drops)
        except OverflowError:
            last = math.inf
        if not 0 < last < math.inf:
            raise ConfigError(
                f"--drop-factor must leave the rate positive and finite, got {self.drop_factor} for "
                f"{len(self.lr_drops)} drops of {self.lr}; try 0.1"
            )

    def name(self) -> str:
        """Return a short name for the run's folder, such as `lenet-multitask-mn2-n128-seed0`."""
        auto = f"auto{self.max_modes}{self.auto_by}"
        modes = auto if self.modes == "auto" else ".".join(map(str, _all(self.modes)))
        modes += "affine" * self.per_mode_affine
        norm = self.norm + {"mn": modes, "mgn": modes, "gn": str(self.groups)}.get(self.norm, "")
        norm += "first" * (self.norm_at == "first")
        data = [self.rarer.replace("/", "")] if self.rarer else []
        data += ["sample"] if self.sample else []
        parts = [self.model, self.task, *data, norm, f"n{self.batch_size}", f"seed{self.seed}"]
        return "-".join(parts).replace(":", ".")

    def folder_name(self) -> str:
        """Return a name for the run's folder that any two different settings have different: `name`, then the others.

        Examples
        --------
        >>> Config(momentum=0.0, lr=0.01, length="40u").folder_name()
        'lenet-multitask-mn2-n128-seed0-lr0.01-length40u'
        """
        usual = replace(recipe(self.model, self.task), backend=self.backend)
        if self.backend != of_commands():
            usual = replace(usual, backend=None)
        named = ("model", "task", "norm", "batch_size", "seed", "rarer", "sample")
        of_mn = {"modes", "per_mode_affine"} | ({"max_modes", "auto_by"} if self.modes == "auto" else set())
        shown = {"mn": of_mn, "mgn": {"modes"}, "gn": {"groups"}}.get(self.norm, set())
        others = [
            f"{field.name.replace('_', '')}{','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for field in fields(self)
            if field.name not in {*named, *FREE_FIELDS, *shown}
            and (value := getattr(self, field.name)) != getattr(usual, field.name)
        ]
        others = [re.sub(r"[^\w.,+-]", "_", text) for text in others]
        if self.task in OWN:
            others.append(f"{Path(self.data_dir or '').name}{digest({'': os.path.abspath(self.data_dir or '')})[:6]}")
        name = "-".join([self.name(), *others])
        return name if len(name) <= 120 else f"{self.name()[:90]}-{digest(self.to_json())[:16]}"

    @property
    def first_modes(self) -> int | tuple[int, ...]:
        """The number of modes that the norms are made with."""
        if not isinstance(self.modes, str):
            return self.modes
        return 1 if self.auto_by == "split" else self.max_modes

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """Make a configuration from what `to_json` returned."""
        if not isinstance(values, dict):
            raise ConfigError(f"a configuration must be a JSON object, got {type(values).__name__}")
        if unknown := values.keys() - {field.name for field in fields(cls)}:
            raise ConfigError(f"unknown configuration fields {sorted(unknown)}; was it written by another version?")
        return cls(**values)


def digest(values: dict[str, Any]) -> str:
    """Return the sha256 of a JSON object in its canonical text form."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


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


def parse_rarer(text: str) -> tuple[str, int]:
    """Return the dataset and the factor of a `rarer` field.

    Examples
    --------
    >>> parse_rarer("svhn/10")
    ('svhn', 10)
    """
    if not (match := re.fullmatch(r"([\w-]+)/([1-9]\d{0,8})", text)):
        raise ConfigError(f"--rarer must be a dataset and how many times rarer it is, got {text!r}; write svhn/10")
    return match[1], int(match[2])


_WHOLE = (
    *("image_size", "groups", "batch_size", "seed", "device", "threads", "max_modes"),
    *("eval_every", "checkpoint_every", "log_every", "ranks"),
)
_REAL = (
    *("norm_momentum", "lr", "momentum", "weight_decay", "drop_factor", "eps", "label_smoothing", "test_share"),
    *("auto_strength", "auto_threshold", "gate_lr", "gate_weight_decay", "gate_temperature"),
)
_TEXT = (
    *("norm_at", "corrupt", "model", "task", "norm", "length", "augment", "dtype", "backend", "rarer"),
    *("optimiser", "schedule", "warmup", "auto_by", "auto_window", "auto_until", "gate_input"),
)


def _checked(name: str, value: Any) -> Any:
    """Return a field's value in Python's own types, NumPy's numbers included; ConfigError if it is of another kind."""
    optional = getattr(Config, name) is None
    if value is None and optional:
        return None
    try:
        if name in ("data_dir", "start_from", "tensorboard"):
            return os.fspath(value)
        if name == "modes" and isinstance(value, str) and value == "auto":
            return value
        if name == "modes" and not hasattr(value, "__index__"):
            return tuple(operator.index(_no_bool(each)) for each in value)
        if name == "modes" or name in _WHOLE:
            return operator.index(_no_bool(value))
        if name == "betas":
            return tuple(float(_no_bool(operator.pos(each))) for each in value)
        if name in _REAL:
            return float(_no_bool(operator.pos(value)))
        if name == "lr_drops":
            return tuple(_text(each) for each in ((value,) if isinstance(value, str) else value))
        if name in _TEXT:
            return _text(value)
        return bool(operator.index(value))
    except (TypeError, ValueError, OverflowError) as error:
        kind = "a whole number" if name == "modes" or name in _WHOLE else "a number" if name in _REAL else None
        kind = kind or ("true or false" if isinstance(getattr(Config, name), bool) else "text")
        raise ConfigError(f"{_flag(name)} must be {kind}, got {value!r}; such as {getattr(Config, name)!r}") from error


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _all(value: int | tuple[int, ...] | str) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (int(value),)


def _unknown(what: str, name: str, known: Iterable[str | None]) -> str:
    names = [each for each in known if each is not None]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? Choose" if near else "choose"
    own = f"; one of your own is my_module:My{'Norm' if what == 'norm' else 'Net'}" if what in ("norm", "model") else ""
    if what == "task" and os.path.exists(name):
        own = f"; your own images are the task folder, with --data-dir {name}"
    return f"unknown {what} {name!r}; {hint} from {', '.join(names)}{own}"


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")
