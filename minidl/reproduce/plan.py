"""What each table consists of: the runs it needs, in the order in which they are trained."""

from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any

from minidl.reproduce import published
from minidl.train.config import Config
from minidl.train.recipes import recipe

BASELINE = "BN"  # what every other column is compared with
WITHOUT_MODES = {"MGN": "GN"}  # and with what a column is compared besides


@dataclass(frozen=True)
class Table:
    """One table, of the paper or ours.

    Attributes
    ----------
    name, title : str
    rows : {heading: settings, such as the batch size}
    columns : {heading: settings of the norm}
    config : what all its runs share
    paper : the published errors, {row: {column: (mean, std)}}; empty for a table that the paper does not have
    measures : {row: (another row, field of an evaluation)}
        Rows that show another error of the runs of another row.
    needs_all : bool
        Whether the paper's numbers are left out where the data is a part of the paper's.
    also : {baseline: columns}
        What some columns are compared with besides.
    """

    name: str
    title: str
    rows: dict[str, dict[str, Any]]
    columns: dict[str, dict[str, Any]]
    config: Config
    paper: dict[str, dict[str, published.Error]]
    measures: dict[str, tuple[str, str]] = field(default_factory=dict)
    needs_all: bool = False
    also: dict[str, list[str]] = field(default_factory=dict)

    @property
    def compared(self) -> dict[str, list[str]]:
        """{baseline: the columns that are compared with it}: all with BN, and MGN with GN, to see what its modes do."""
        found = {BASELINE: [column for column in self.columns if column != BASELINE]}
        for column, baseline in WITHOUT_MODES.items():
            if column in self.columns and baseline in self.columns:
                found[baseline] = [column]
        return found | self.also


@dataclass(frozen=True)
class Run:
    """One training run and its place in the table."""

    row: str
    column: str
    seed: int
    config: Config

    @property
    def label(self) -> str:
        """How the run is called in what is printed."""
        return f"{self.row}, {self.column}, seed {self.seed}"


MULTITASK = recipe("lenet", "multitask")
LARGE_BATCHES: dict[str, dict[str, Any]] = {
    "BN": {"norm": "bn"},
    "IN": {"norm": "in"},
    "LN": {"norm": "ln"},
    "MN K=2": {"norm": "mn", "modes": 2},
    "MN K=4": {"norm": "mn", "modes": 4},
    "MN K=6": {"norm": "mn", "modes": 6},
}
SMALL_BATCHES: dict[str, dict[str, Any]] = {
    "BN": {"norm": "bn"},
    "MN": {"norm": "mn", "modes": 2},
    "GN": {"norm": "gn", "groups": 2},
    "MGN": {"norm": "mgn", "modes": 2},
}
FIXED_UPDATES = replace(  # evaluated ten times: an epoch of such small batches is up to 60 000 updates
    MULTITASK, length="50000u", lr=0.02, lr_drops=("7/10", "17/20"), eval_every=5000, checkpoint_every=5000
)
RARER = {f"{name} 10 × rarer": {"rarer": f"{name}/10"} for name in ("mnist", "cifar-10", "svhn", "fashion-mnist")}
MODES: dict[str, dict[str, Any]] = {  # K of the first norm of LeNet, and of the second
    "BN": {"norm": "bn"},
    "MN K=2, 2": {"norm": "mn", "modes": 2},
    "MN K=2, 1": {"norm": "mn", "modes": (2, 1)},
    "MN K=1, 2": {"norm": "mn", "modes": (1, 2)},
    "MN K=2, 6": {"norm": "mn", "modes": (2, 6)},
    "MN K=2 per-mode affine": {"norm": "mn", "modes": 2, "per_mode_affine": True},
}
AUTO: dict[str, dict[str, Any]] = {
    "MN auto, entropy": {"norm": "mn", "modes": "auto", "auto_by": "entropy"},
    "MN auto, pruned": {"norm": "mn", "modes": "auto", "auto_by": "prune"},
    "MN auto, split": {"norm": "mn", "modes": "auto", "auto_by": "split"},
}
CURES: dict[str, dict[str, Any]] = {  # of gates that collapse, beside the paper's form
    "MN, input normalised": {"norm": "mn", "gate_input": "normalised"},
    "MN, Ψ's rate × 0.1": {"norm": "mn", "gate_lr": 0.1},
    "MN, Ψ's decay 0.01": {"norm": "mn", "gate_weight_decay": 0.01},
    "MN, temperature 10": {"norm": "mn", "gate_temperature": 10.0},
    "MN, normalised, rate × 0.1": {"norm": "mn", "gate_input": "normalised", "gate_lr": 0.1},
}
TRIED: dict[str, dict[str, Any]] = {
    "as in Table 1": {},
    "momentum 0.9": {"momentum": 0.9},
    "lr 0.01": {"lr": 0.01},
    "momentum 0.9, lr 0.01": {"momentum": 0.9, "lr": 0.01},
    "weight decay 0.0005": {"weight_decay": 5e-4},
    "flip and crop": {"augment": "flip-crop"},
    "LeNet of 1989": {"model": "lenet1989"},
    "LeNet of 1989, momentum 0.9": {"model": "lenet1989", "momentum": 0.9},
}


def _of_paper(
    name: str, title: str, columns: dict[str, dict[str, Any]], config: Config, errors: published.Errors
) -> Table:
    rows = {f"N = {size}": {"batch_size": size} for size in errors}
    return Table(name, title, rows, columns, config, dict(zip(rows, errors.values(), strict=True)))


def _ours(
    name: str,
    title: str,
    rows: dict[str, dict[str, Any]],
    columns: dict[str, dict[str, Any]],
    config: Config = MULTITASK,
    also: dict[str, list[str]] | None = None,
) -> Table:
    return Table(name, f"{title} (ours, not in the paper)", rows, columns, config, {}, also=also or {})


def _against_two(columns: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return that these columns are compared with the paper's K = 2."""
    return {"MN K=2": list(columns)}


def _columns(*names: str) -> dict[str, dict[str, Any]]:
    return {name: LARGE_BATCHES[name] for name in names}


BN_AND_MN: dict[str, dict[str, Any]] = {"BN": {"norm": "bn"}, "MN": {"norm": "mn", "modes": 2}}
NETWORKS = {"NIN": "nin", "VGG13": "vgg13", "ResNet20": "resnet20"}


def _table3(task: str, name: str, title: str) -> Table:
    """Return Table 3 on one of its data sets: each row has its network's own recipe."""
    config = recipe("resnet20", task)
    rows = {
        row: {
            each.name: getattr(own, each.name)
            for each in fields(Config)
            if getattr(own, each.name) != getattr(config, each.name)
        }
        for row, own in ((row, recipe(model, task)) for row, model in NETWORKS.items())
    }
    return Table(name, title, rows, BN_AND_MN, config, published.TABLE3[task], needs_all=True)


TABLES = {
    table.name: table
    for table in (
        _of_paper("table1", "Table 1: multi-task", LARGE_BATCHES, MULTITASK, published.TABLE1),
        _of_paper(
            "table1-momentum",
            "Table 1: multi-task, by SGD with momentum 0.9",
            LARGE_BATCHES,
            replace(MULTITASK, momentum=0.9),
            published.TABLE1,
        ),
        _of_paper("table2", "Table 2: multi-task, small batches", SMALL_BATCHES, FIXED_UPDATES, published.TABLE2),
        _table3("cifar10", "table3", "Table 3: CIFAR-10"),
        _table3("cifar100", "table3-cifar100", "Table 3: CIFAR-100"),
        Table(
            "table4",
            "Table 4: ResNet18 on ILSVRC12",
            {"top-1": {}, "top-5": {}},
            BN_AND_MN,
            recipe("resnet18", "imagenet"),
            published.TABLE4,
            measures={"top-5": ("top-1", "test_error_top5")},
            needs_all=True,
        ),
        _of_paper("table5", "Table 5: multi-task, large batches", LARGE_BATCHES, MULTITASK, published.TABLE5),
        _ours("unbalanced", "One dataset ten times rarer", RARER, _columns("BN", "MN K=2", "MN K=4")),
        _ours("modes", "K chosen per layer, and one affine map per mode", {"N = 128": {}}, MODES),
        _ours(
            "auto",
            "The number of modes, found while it trains: multi-task",
            {"N = 128": {}},
            {**_columns("BN", "MN K=2"), "MN K=2, 6": MODES["MN K=2, 6"], **AUTO},
            also=_against_two(AUTO),
        ),
        _ours(
            "auto-resnet20",
            "The number of modes, found while it trains: ResNet20 on CIFAR-10",
            {"ResNet20": {}},
            {**_columns("BN", "MN K=2", "MN K=4"), **AUTO},
            recipe("resnet20", "cifar10"),
            _against_two(AUTO),
        ),
        _ours(
            "collapse",
            "Gates that collapse, and cures: LeNet by SGD with momentum 0.9",
            {"LeNet": {}},
            {**_columns("BN", "MN K=2"), **CURES},
            replace(MULTITASK, momentum=0.9),
            _against_two(CURES),
        ),
        _ours(
            "collapse-resnet20",
            "Gates that collapse, and cures: ResNet20 on CIFAR-10",
            {"ResNet20": {}},
            {**_columns("BN", "MN K=2"), **CURES},
            recipe("resnet20", "cifar10"),
            _against_two(CURES),
        ),
        _ours("tried", "Settings the paper does not state", TRIED, _columns("BN", "MN K=2")),
    )
}


def runs(table: Table, seeds: int, scale: Decimal, **settings: Any) -> list[Run]:
    """Return the runs of a table, all columns of one seed before any of the next.

    Parameters
    ----------
    table : Table
    seeds : int
        Seeds 0 to seeds − 1.
    scale : Decimal
        What the length of every run is multiplied by.
    settings
        Fields of `minidl.train.Config` that do not depend on the table, such as `data_dir`.

    Examples
    --------
    >>> [run.label for run in runs(TABLES["table1"], 2, Decimal("0.1"))][5:7]
    ['N = 128, MN K=6, seed 0', 'N = 128, BN, seed 1']
    """
    base = replace(table.config, **settings)
    return [
        Run(row, column, seed, shortened(replace(base, seed=seed, **settings_of_row, **norm), scale))
        for seed in range(seeds)
        for row, settings_of_row in table.rows.items()
        if row not in table.measures
        for column, norm in table.columns.items()
    ]


def shortened(config: Config, scale: Decimal) -> Config:
    """Return a configuration whose length is that of `config` times `scale`.

    Its drops of the learning rate are shares of the run, which stay. So does the time between evaluations.

    Examples
    --------
    >>> shortened(FIXED_UPDATES, Decimal("0.001")).length
    '50u'
    """
    amount, unit = Decimal(config.length[:-1]), config.length[-1]
    return replace(config, length=f"{(amount * scale).normalize():f}{unit}")
