"""Known variants of mode normalization: its running moments, and evaluation."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection

CLAMP = "clamp(self.running_mean_square - self.running_mean * self.running_mean)[None]"
STATE = "def state(self)"
UNSAVED = "def saved(self):\n        return {}\n\n    def state(self)"
UPDATE = "self.update(mu[0], second[0], var[0])"
EVAL = "w = g\n            mu = self.running_mean[None]"


def inference(table: Collection) -> None:
    """Wrong running moments and evaluation."""
    table.wrong(
        "momentum swapped",
        "momentum is taken as the weight of the OLD moments; if you mean it, declare momentum='old'",
        ('lam = self.options["momentum"]', 'lam = 1 - self.options["momentum"]'),
        seen=("d2l-ai/d2l-en#2213",),
    )
    table.wrong(
        "moments of the means",
        "the running second moment is that of the samples' means",
        ("mean(flat * flat, 2)[:, None, :, 0], 0)\n", "m * m, 0)\n"),
    )
    table.wrong(
        "running variance for second moment",
        "running_mean_square holds a variance, not the mean of x²",
        ("second = total(w[:, :, None] * mean(flat * flat, 2)[:, None, :, 0], 0)", "second = var"),
    )
    table.wrong(
        "statistics updated in evaluation",
        "evaluation changes the running moments",
        (
            EVAL,
            f"self.update(mean(m, 0)[0], mean(m * m, 0)[0], mean(m * m, 0)[0] - mean(m, 0)[0] ** 2)\n            "
            f"{EVAL}",
        ),
    )
    gated = "softmax(log_softmax(z, 1), 0)[:, :, None]"
    table.wrong(
        "moments of the modes updated in evaluation",
        "evaluation changes the running moments, by those of its batch with the gates",
        (
            EVAL,
            f"first, u = total({gated} * m, 0), mean(flat * flat, 2)[:, None, :, 0]\n            "
            f"second = total({gated} * u, 0)\n            {EVAL}",
        ),
        (
            'rstd = 1 / sqrt(var + self.options["eps"])\n',
            'rstd = 1 / sqrt(var + self.options["eps"])\n        if not training:\n            '
            "self.update(first[0], second[0], (second - first * first)[0])\n",
        ),
    )
    table.wrong(
        "statistics updated twice",
        "the running moments are updated twice a forward pass",
        (UPDATE, f"{UPDATE}\n            {UPDATE}"),
    )
    table.wrong("statistics never updated", "training leaves the running moments as they are", (UPDATE, "pass"))
    table.wrong(
        "state not saved",
        "the running moments are not part of the saved state: a reload loses them",
        (STATE, UNSAVED),
        seen=("bayesiains/nflows#4",),
    )
    table.wrong(
        "running moments start at 0",
        "the running second moment starts at 0: evaluation before training divides by sqrt(eps)",
        ("zero, zero + 1", "zero, zero"),
    )
    table.wrong(
        "variance not clamped",
        "evaluation takes <x²> − <x>² as it comes: below −eps its root is NaN",
        (CLAMP, CLAMP.replace("clamp", "")),
    )
    table.wrong(
        "evaluation uses the batch",
        "evaluation normalises by the moments of the batch",
        ("if training:\n            w = softmax", "if True:\n            w = softmax"),
        (UPDATE, f"training and {UPDATE}"),
        ("if training:\n            dvar", "if True:\n            dvar"),
    )
    table.wrong(
        "training formula in the backward of evaluation",
        "backward after evaluation uses the training formula; running moments are constants",
        ("if training:\n            dvar", "if True:\n            dvar"),
    )
    table.wrong(
        "backward of the first forward",
        "backward belongs to the first forward pass, not to the last",
        ("self.kept = (", "self.kept = self.kept or ("),
    )
    table.wrong(
        "gradients overwritten",
        "gradients are overwritten where they are declared to add up; if you mean it, declare grads='overwrite'",
        declares={"grads": "accumulate"},
    )
    for name in ("running_mean", "running_mean_square"):
        new = "first" if name == "running_mean" else "second"
        table.wrong(
            f"{name} has the momentum swapped",
            f"momentum is taken as the weight of the OLD moments for {name} alone",
            (
                f"self.{name} = (1 - lam) * self.{name} + lam * {new}",
                f"self.{name} = lam * self.{name} + (1 - lam) * {new}",
            ),
        )
