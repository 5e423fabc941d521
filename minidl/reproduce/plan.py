"""What each table consists of: the runs it needs, in the order in which they are worth having."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from minidl.reproduce import published
from minidl.train.recipes import Config, recipe

BASELINE = "BN"  # what every other column is compared with


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes
    ----------
    name, title : str
    batch_sizes : its rows
    columns : {heading: settings of the norm}
    config : what all its runs share
    paper : the published errors
    """

    name: str
    title: str
    batch_sizes: tuple[int, ...]
    columns: dict[str, dict[str, Any]]
    config: Config
    paper: published.Errors


@dataclass(frozen=True)
class Run:
    """One training run and its place in the table."""

    batch_size: int
    column: str
    seed: int
    config: Config

    @property
    def label(self) -> str:
        """How the run is called in what is printed."""
        return f"N={self.batch_size} {self.column} seed {self.seed}"


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
FIXED_UPDATES = replace(  # evaluated ten times: with these batches an epoch is up to 60 000 updates
    MULTITASK, length="50000u", lr=0.02, lr_drops=("7/10", "17/20"), eval_every=5000, checkpoint_every=5000
)
TABLES = {
    "table1": Table("table1", "Table 1: multi-task", (128,), LARGE_BATCHES, MULTITASK, published.TABLE1),
    "table2": Table(
        "table2", "Table 2: multi-task, small batches", (4, 8, 16), SMALL_BATCHES, FIXED_UPDATES, published.TABLE2
    ),
    "table5": Table(
        "table5", "Table 5: multi-task, large batches", (256, 512), LARGE_BATCHES, MULTITASK, published.TABLE5
    ),
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
    ['N=128 MN K=6 seed 0', 'N=128 BN seed 1']
    """
    base = shortened(replace(table.config, **settings), scale)
    return [
        Run(size, column, seed, replace(base, batch_size=size, seed=seed, **norm))
        for seed in range(seeds)
        for size in table.batch_sizes
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
