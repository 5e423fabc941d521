"""Known variants of batch normalization: its running statistics, and evaluation."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection

RSTD = "rstd = 1 / sqrt(var + eps)"
UPDATE = "self.update(mu.reshape(-1), var.reshape(-1), x.size // x.shape[1])"
EVAL = "mu, var = column(self.running_mean, x), column(self.running_var, x)"
STATE = "def state(self)"
UNSAVED = "def saved(self):\n        return {}\n\n    def state(self)"
LIFT = 'axes = (0, *range(2, x.ndim))\n        eps, weight, bias = self.options["eps"]'


def state(table: Collection) -> None:
    """Wrong running statistics."""
    swapped = "momentum is taken as the weight of the OLD statistics; if you mean it, declare momentum='old'"
    table.wrong(
        "momentum swapped",
        swapped,
        ('lam = self.options["momentum"]', 'lam = 1 - self.options["momentum"]'),
        seen=("d2l-ai/d2l-en#2213", "apache/mxnet#1948"),
    )
    biased = (
        "running_var is the BIASED variance of the batch (n, not n − 1); if you mean it, declare running_var='biased'"
    )
    table.wrong(
        "running_var biased",
        biased,
        ('if convention == "unbiased"', 'if convention == "never"'),
        seen=("pytorch/pytorch#19916",),
    )
    table.wrong(
        "n − 1 counts the batch alone",
        "running_var is corrected by N/(N − 1) of the batch size, not by that of N·P values",
        ("var = var * n / max(n - 1, 1)", "var = var * self.batch / max(self.batch - 1, 1)"),
        (LIFT, "self.batch = x.shape[0]\n        " + LIFT),
    )
    table.wrong(
        "running_var is a standard deviation",
        "running_var holds a standard deviation",
        (
            "self.running_var = (1 - lam) * old_var + lam * var",
            "self.running_var = (1 - lam) * old_var + lam * sqrt(var)",
        ),
    )
    table.wrong(
        "running_var with eps",
        "running_var contains eps",
        (
            "self.running_var = (1 - lam) * old_var + lam * var",
            'self.running_var = (1 - lam) * old_var + lam * (var + self.options["eps"])',
        ),
    )
    table.wrong(
        "statistics updated in evaluation",
        "evaluation changes the running statistics",
        (
            EVAL,
            f"self.update(mean(x, axes).reshape(-1), mean(x * x, axes).reshape(-1) - mean(x, axes).reshape(-1) "
            f"** 2, x.size // x.shape[1])\n            {EVAL}",
        ),
    )
    table.wrong(
        "statistics updated twice",
        "the running statistics are updated twice a forward pass",
        (UPDATE, f"{UPDATE}\n            {UPDATE}"),
    )
    table.wrong("statistics never updated", "training leaves the running statistics as they are", (UPDATE, "pass"))
    table.wrong(
        "running_mean never updated",
        "training leaves running_mean as it is",
        ("self.running_mean = (1 - lam) * old_mean + lam * mu", "pass"),
    )
    table.wrong(
        "momentum 0 taken for none",
        "a momentum of 0 is taken for not given",
        ('lam = self.options["momentum"]', 'lam = self.options["momentum"] or 0.1'),
    )
    table.wrong(
        "momentum fixed at 0.1",
        "momentum is 0.1 whatever it is set to",
        ('lam = self.options["momentum"]', "lam = 0.1"),
    )
    table.wrong(
        "evaluation uses the batch",
        "evaluation normalises by the batch statistics, not by the running statistics",
        ("if training:\n            mu = mean", "if True:\n            mu = mean"),
        (UPDATE, f"training and {UPDATE}"),
    )
    table.wrong(
        "evaluation takes running_var for a deviation",
        "evaluation divides by running_var, not by its root",
        (RSTD, "rstd = 1 / sqrt(var + eps) if training else 1 / (var + eps)"),
    )
    seen = ("bayesiains/nflows#4", "d2l-ai/d2l-zh#1265")
    table.wrong(
        "state not saved",
        "the running statistics are not part of the saved state: a reload loses them",
        (STATE, UNSAVED),
        seen=seen,
    )
    table.wrong(
        "running_var starts at 0",
        "running_var starts at 0: evaluation before training divides by sqrt(eps)",
        ("zero, zero + 1", "zero, zero"),
    )


def more_state(table: Collection) -> None:
    """Further running statistics that go wrong, and evaluation."""
    moved = "self.running_mean = (1 - lam) * old_mean + lam * mu"
    spread = "self.running_var = (1 - lam) * old_var + lam * var"
    table.wrong(
        "running_var never updated", "training leaves running_var as it is", (spread, "self.running_var = old_var")
    )
    table.wrong(
        "running_mean has the momentum swapped",
        "momentum is taken as the weight of the OLD statistics for running_mean alone",
        (moved, "self.running_mean = lam * old_mean + (1 - lam) * mu"),
    )
    table.wrong(
        "running_var has the momentum swapped",
        "momentum is taken as the weight of the OLD statistics for running_var alone",
        (spread, "self.running_var = lam * old_var + (1 - lam) * var"),
    )
    table.wrong(
        "running statistics are those of the last batch",
        "the running statistics are those of the last batch: no average is kept",
        (moved, "self.running_mean = mu"),
        (spread, "self.running_var = var"),
    )
    table.wrong(
        "running statistics do not decay",
        "the batch's statistics are added to the running ones, which lack the factor 1 − momentum",
        (moved, "self.running_mean = old_mean + lam * mu"),
        (spread, "self.running_var = old_var + lam * var"),
    )
    table.wrong(
        "running_var corrected by (n − 1)/n",
        "running_var is multiplied by (n − 1)/n, where n/(n − 1) belongs",
        ("var = var * n / max(n - 1, 1)", "var = var * max(n - 1, 1) / n"),
    )
    table.wrong(
        "running_var corrected twice",
        "running_var is multiplied by n/(n − 1) twice",
        ("var = var * n / max(n - 1, 1)", "var = var * (n / max(n - 1, 1)) ** 2"),
    )
    table.wrong(
        "running_var about the running mean",
        "running_var is taken about the running mean, not about the batch's own",
        (
            UPDATE,
            "self.update(mu.reshape(-1), mean((x - column(self.running_mean, x)) ** 2, axes).reshape(-1), x.size "
            "// x.shape[1])",
        ),
    )
    table.wrong(
        "running_var holds the second moment",
        "running_var holds the mean of x², not the variance",
        (UPDATE, "self.update(mu.reshape(-1), mean(x * x, axes).reshape(-1), x.size // x.shape[1])"),
    )
    table.wrong(
        "running_var is an inverse deviation",
        "running_var is 1/sigma: the inverse standard deviation is averaged",
        (spread, 'self.running_var = (1 - lam) * old_var + lam / sqrt(var + self.options["eps"])'),
    )
    table.wrong(
        "cumulative average for momentum",
        "the running statistics are a cumulative average: momentum is ignored",
        ('lam = self.options["momentum"]', 'self.seen = getattr(self, "seen", 0) + 1\n        lam = 1 / self.seen'),
    )
    table.wrong(
        "evaluation without eps",
        "evaluation adds no eps to running_var",
        (RSTD, "rstd = 1 / sqrt(var + eps) if training else 1 / sqrt(var)"),
    )
    table.wrong(
        "evaluation with eps outside the root",
        "evaluation adds eps outside the root",
        (RSTD, "rstd = 1 / sqrt(var + eps) if training else 1 / (sqrt(var) + eps)"),
    )
    table.wrong(
        "evaluation without the affine map",
        "evaluation applies neither weight nor bias",
        ("return weight * xhat + bias", "return weight * xhat + bias if training else xhat + 0 * (weight + bias)"),
    )
    table.wrong(
        "evaluation mixes batch mean and running_var",
        "evaluation takes the mean of the batch and the running variance",
        (EVAL, "mu, var = mean(x, axes), column(self.running_var, x)"),
    )
    table.wrong(
        "evaluation mixes running mean and batch variance",
        "evaluation takes the running mean and the variance of the batch",
        (EVAL, "mu = column(self.running_mean, x)\n            var = mean((x - mean(x, axes)) ** 2, axes)"),
    )
    table.wrong(
        "training uses the running statistics",
        "training normalises by the running statistics, not by those of the batch",
        (
            "self.update(mu.reshape(-1), var.reshape(-1), x.size // x.shape[1])",
            "self.update(mu.reshape(-1), var.reshape(-1), x.size // x.shape[1])\n            mu, var = "
            "column(detach(self.running_mean), x), column(detach(self.running_var), x)\n            centred = x - mu",
        ),
    )
    table.wrong(
        "evaluation ignores the running mean",
        "evaluation does not subtract the running mean",
        (EVAL, "mu, var = column(0 * self.running_mean, x), column(self.running_var, x)"),
    )
    table.wrong(
        "statistics updated in evaluation alone",
        "the running statistics are updated in evaluation and not in training: the modes are swapped",
        (UPDATE, "pass"),
        (
            EVAL,
            f"self.update(mean(x, axes).reshape(-1), mean(x * x, axes).reshape(-1) - mean(x, axes).reshape(-1) "
            f"** 2, x.size // x.shape[1])\n            {EVAL}",
        ),
    )
    own = "mu, var = column(self.running_mean, x), column(self.running_var, x)\n            centred = x - mu"
    table.wrong(
        "evaluation subtracts the mean after the division",
        "evaluation subtracts the running mean after dividing by sigma: in the folded bias 1/sigma is missing",
        (own, own + " * sqrt(var + eps)"),
    )
    for wrong in ("0.01", "0.9", "0.99"):
        table.wrong(
            f"momentum fixed at {wrong}",
            f"momentum is {wrong} whatever it is set to",
            ('lam = self.options["momentum"]', f"lam = {wrong}"),
        )


def odd_updates(table: Collection) -> None:
    """Updates of the running statistics with a wrong count, sign or divisor."""
    moved = "self.running_mean = (1 - lam) * old_mean + lam * mu"
    spread = "self.running_var = (1 - lam) * old_var + lam * var"
    table.wrong(
        "n − 1 counts all values",
        "running_var is corrected by n/(n − 1) with n the number of all values of x, not of those of a channel",
        ("var = var * n / max(n - 1, 1)", "var = var * (n * len(mu)) / (n * len(mu) - 1)"),
    )
    table.wrong(
        "running statistics move away from the batch",
        "the running statistics move away from those of the batch: running += momentum (running − batch)",
        (moved, "self.running_mean = (1 + lam) * old_mean - lam * mu"),
        (spread, "self.running_var = (1 + lam) * old_var - lam * var"),
    )
    table.wrong(
        "evaluation divides by 1 − (1 − momentum)^t",
        "evaluation divides the running statistics by 1 − (1 − momentum)^t, which is for a start at 0",
        (
            EVAL,
            'part = 1 - (1 - self.options["momentum"]) ** self.times if self.times and self.options["momentum"] else 1'
            f"\n            {EVAL}\n            mu, var = mu / part, var / part",
        ),
        (UPDATE, f"{UPDATE}\n            self.times = self.times + 1"),
        ("zero = 0 * self.params", "self.times = 0\n        zero = 0 * self.params"),
    )
