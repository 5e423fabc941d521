"""The configuration of a training run: everything that decides its numbers."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..data.split import TEST_SHARE
from . import config_checks
from .span import ConfigError

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
        "numpy", "numba", "cupy" or "auto"; by default what MINIDL_BACKEND says, else numpy.
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
            object.__setattr__(self, each.name, config_checks.typed(each.name, getattr(self, each.name), each.default))
        config_checks.check(self)

    def name(self) -> str:
        """Return a short name for the run's folder, such as `lenet-multitask-mn2-n128-seed0`."""
        auto = f"auto{self.max_modes}{self.auto_by}"
        modes = auto if self.modes == "auto" else ".".join(map(str, config_checks.each(self.modes)))
        modes += "affine" * self.per_mode_affine
        norm = self.norm + {"mn": modes, "mgn": modes, "gn": str(self.groups)}.get(self.norm, "")
        norm += "first" * (self.norm_at == "first")
        data = [self.rarer.replace("/", "")] if self.rarer else []
        data += ["sample"] if self.sample else []
        parts = [self.model, self.task, *data, norm, f"n{self.batch_size}", f"seed{self.seed}"]
        return "-".join(parts).replace(":", ".")

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
