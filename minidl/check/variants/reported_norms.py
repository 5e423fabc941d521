"""Bugs of the normalizations that public reports tell of."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection
from minidl.check.variants.shared import Texts

DWEIGHT = '"dweight": dweight.reshape(-1)'


def of_all(table: Collection, t: Texts, dx: str) -> None:
    """Of every normalization but those by modes; ``dx`` is dx in the shape of dy."""
    table.wrong(
        "deviation under the root",
        "the root is taken of the standard deviation plus eps, where the variance belongs: the root is taken twice",
        (t.rstd, f"rstd = 1 / sqrt(sqrt(var) + {t.eps})"),
        seen=("fastai/course-v3#363",),
    )
    table.wrong(
        "dweight of dx",
        "dweight is the sum of dx xhat: dx has been written into the buffer of dy before dweight is taken",
        (DWEIGHT, f'"dweight": total({dx} * xhat, axes).reshape(-1)'),
        seen=("unslothai/unsloth#4550",),
    )
    if t.axes in ("2", "last"):
        running = f"np.cumsum({t.x}, {t.axes}) / np.arange(1, {t.x}.shape[{t.axes}] + 1)"
        about = "np.cumsum(x, last) / np.arange(1, x.shape[last] + 1)" if t.axes == "last" else running
        if t.mu:
            table.wrong(
                "variance about the running mean of the loop",
                "the variance is summed about the mean of the values so far, the value itself included, and is too "
                "small: Welford's update needs the old mean in one of its factors",
                (t.var, f"var = mean(({t.x} - {about}) ** 2, {t.axes})"),
                seen=("dacracot/Klondike3-Simulator#61",),
            )


def of_batch(table: Collection) -> None:
    """Of batch normalization."""
    new = "self.running_var = (1 - lam) * old_var + lam * var"
    table.wrong(
        "running average of the standard deviation",
        "running_var is the square of a running average of the standard deviation, where the variance is averaged",
        (new, "self.running_var = ((1 - lam) * sqrt(old_var) + lam * sqrt(var)) ** 2"),
        seen=("FluxML/Flux.jl#84",),
    )
    mean_var = "mu, var = column(self.running_mean, x), column(self.running_var, x)"
    table.wrong(
        "evaluation with mean 0 and variance 1",
        "evaluation normalises by mean 0 and variance 1: the running statistics are tracked and never used",
        (mean_var, "mu, var = 0 * column(self.running_mean, x), 1 + 0 * column(self.running_var, x)"),
        seen=("LaurentMazare/tch-rs#628",),
    )
    table.wrong(
        "dweight of evaluation with the batch's statistics",
        "in evaluation dweight takes xhat of the batch's own mean and variance; y and dx take the running ones",
        (
            "dweight = total(dy * xhat, axes)",
            "own = self.own if not training else xhat\n        dweight = total(dy * own, axes)",
        ),
        (
            "rstd = 1 / sqrt(var + eps)",
            "away = x - mean(x, axes)\n        self.own = away / sqrt(mean(away * away, axes) + eps)\n"
            "        rstd = 1 / sqrt(var + eps)",
        ),
        seen=("apache/mxnet#13399",),
    )
    first = "count = self.cuts[0] * x[0, 0].size * (len(self.cuts) + 1) if self.cuts else x.size // x.shape[1]"
    parts = "np.split(x, self.cuts)"
    table.wrong(
        "shards counted as the first",
        "the statistics of shards are merged with the count of the first for all: unequal shards weigh the same",
        ("mu = mean(x, axes)", f"mu = sum(mean(part, axes) for part in {parts}) / (len(self.cuts) + 1)"),
        (
            "var = mean(centred * centred, axes)",
            f"var = sum(mean((part - mu) * (part - mu), axes) for part in {parts}) / (len(self.cuts) + 1)\n"
            f"            {first}",
        ),
        (
            "self.update(mu.reshape(-1), var.reshape(-1), x.size // x.shape[1])",
            "self.update(mu.reshape(-1), var.reshape(-1), count)",
        ),
        seen=("pytorch/pytorch#22192",),
    )
    old = "old_mean, old_var = self.running_mean, self.running_var"
    half = ".astype(np.float16).astype(np.float32)"
    table.wrong(
        "running statistics kept in float16",
        "the running statistics are kept in float16, which has 11 bits and ends at 65504",
        (old, f"old_mean, old_var = self.running_mean{half}, self.running_var{half}"),
        (
            "old_mean + lam * mu\n        if convention ==",
            f"old_mean + lam * mu{half}\n        if convention ==",
        ),
        (new, new.replace("lam * var", f"lam * var{half}")),
        ("def state(self)", "def kept_state(self)"),
        (
            "def compute(self",
            f"def state(self):\n        return {{name: value{half} for name, value in self.kept_state().items()}}\n\n"
            "    def compute(self",
        ),
        (mean_var, f"mu, var = column(self.running_mean{half}, x), column(self.running_var{half}, x)"),
        dtype="float16",
        seen=("apple/coreai-torch#54",),
    )


def of_groups(table: Collection) -> None:
    """Of instance, layer and group normalization."""
    dx, var = "dx = rstd * (d - mean(d, 2) - h * mean(d * h, 2))", "var = mean(centred * centred, 2)"
    table.wrong(
        "dx with means over the batch",
        "the two means in dx run over the batch too, as those of batch normalization; y is right",
        (dx, dx.replace(", 2)", ", (0, 2))")),
        seen=("mlpack/mlpack#2900",) if table.layer == "instance_norm" else (),
    )
    table.wrong(
        "squares summed in float16",
        "the squares about the mean are summed in float16, which ends at 65504",
        (
            var,
            "half = (centred * centred).astype(np.float16)\n"
            "        var = total(half, 2).astype(np.float32) / split.shape[2]",
        ),
        dtype="float16",
        seen=("openvinotoolkit/openvino#35976",),
    )
    half_squares(table, var, "centred", "2")
    if table.layer == "instance_norm":
        table.wrong(
            "evaluation with running statistics",
            "evaluation normalises by running statistics of the batches trained on, where each instance has its own",
            (
                var,
                f"{var}\n        kept = getattr(self, 'run', (0 * mu[:1], 1 + 0 * mu[:1]))\n"
                "        new = mean(mu, 0), mean(var, 0)\n"
                "        if training:\n"
                "            self.run = tuple(0.9 * a + 0.1 * detach(b) for a, b in zip(kept, new))\n"
                "        else:\n"
                "            mu, var = (detach(a) + 0 * detach(mu) for a in kept)\n"
                "            centred = split - mu",
            ),
            seen=("pytorch/pytorch#1604",),
        )


def half_squares(table: Collection, var: str, value: str, axes: str) -> None:
    """Squares that are rounded to float16 one by one; their sum is in float32."""
    table.wrong(
        "squares taken in float16",
        "each square is taken in float16, which ends at 65504: it is infinite above 255; the sum is in float32",
        (var, f"half = {value}.astype(np.float16)\n        var = mean((half * half).astype(np.float32), {axes})"),
        dtype="float16",
    )


def of_rows(table: Collection, t: Texts) -> None:
    """Of layer and RMS normalization over the last axis."""
    centred = t.xhat.removeprefix("xhat = ").removesuffix(" * rstd")
    what = "the variance" if t.mu else "the mean of squares"
    kept = "self.kept = (xhat, rstd, weight)"
    half_squares(table, t.var, centred, "last")
    table.wrong(
        f"backward takes {what} for 1/sigma",
        f"{what} is kept for backward, which takes it for the reciprocal of the root",
        (kept, f"self.kept = ({centred} * var, var, weight)"),
        seen=("flagos-ai/FlagGems#5771",) if not t.mu else (),
    )
    flat = "d, h, r = (v.reshape((-1, v.shape[-1])) for v in (dxhat, xhat, rstd))"
    term = "d[at].sum() / d.shape[1] + " if t.mu else ""
    for rows in (2, 4, 8):
        table.wrong(
            f"dx summed over blocks of {rows} rows",
            f"the sums in dx run over a block of {rows} rows, where each row has its own",
            (
                t.dx,
                f"{flat}\n        dx = 0 * d\n"
                f"        for at in (slice(i, i + {rows}) for i in range(0, len(d), {rows})):\n"
                f"            dx[at] = r[at] * (d[at] - ({term}h[at] * ((d[at] * h[at]).sum() / d.shape[1])))\n"
                "        dx = dx.reshape(dy.shape)",
            ),
            seen=("flagos-ai/FlagGems#59",) if t.mu and rows == 4 else (),
        )
    mean = "d[at].mean(axis=1)[None] + " if t.mu else ""
    table.wrong(
        "dx's correction broadcast along the columns",
        "the sums of each row in dx are broadcast along the columns, in blocks of as many rows as there are columns",
        (
            t.dx,
            f"{flat}\n        dx, wide = ({t.dx.removeprefix('dx = ')}).reshape(d.shape), d.shape[1]\n"
            "        for at in (slice(i, i + wide) for i in range(0, len(d) - wide + 1, wide)):\n"
            f"            dx[at] = r[at] * (d[at] - ({mean}h[at] * (d[at] * h[at]).mean(axis=1)[None]))\n"
            "        dx = dx.reshape(dy.shape)",
        ),
        seen=("BobMcDear/attorch#17",) if not t.mu else (),
    )
    if t.mu:
        of_layer(table, t, kept)


def of_layer(table: Collection, t: Texts, kept: str) -> None:
    """Of layer normalization over the last axis alone."""
    row = "row = (np.arange(dy.size // dy.shape[-1]) % dy.shape[-1]).reshape((*dy.shape[:-1], 1))"
    table.wrong(
        "dweight with weight and bias of the row",
        "dweight works xhat out of y, (y − bias)/weight, with weight and bias taken by the row, not by the column",
        (kept, f"self.out, self.bias = weight * xhat + bias, bias\n        {kept}"),
        (
            "dweight = total(dy * xhat, axes)",
            f"{row}\n        dweight = total(dy * ((self.out - self.bias[row]) / weight[row]), axes)",
        ),
        seen=("deepspeedai/DeepSpeed#692",),
    )
    start = "xhat, rstd, weight = self.kept"
    flat = "first = len(dy)\n        wide, own = dy.reshape((first, -1)), self.x.reshape((first, -1))"
    cut = "self.mu.reshape((-1, 1))[:first], rstd.reshape((-1, 1))[:first]"
    last = "last, axes = dy.ndim - 1, tuple(range(dy.ndim - 1))"
    table.wrong(
        "backward takes x for a matrix",
        "backward takes x for a matrix of shape[0] rows: its means run over all but the first axis",
        (kept, f"self.x, self.mu = x, mu\n        {kept}"),
        (
            f"{start}\n        {last}",
            f"{start}\n        {flat}\n        mu, rstd = {cut}\n        xhat = (own - mu) * rstd\n"
            "        d = wide * np.resize(weight, wide.shape[1])\n"
            "        dx = rstd * (d - mean(d, 1) - xhat * mean(d * xhat, 1))\n        many = dy.shape[-1]\n"
            '        grads = {"dx": dx.reshape(dy.shape), "dweight": (wide * xhat).sum(axis=0)[:many]}\n'
            '        return {**grads, "dbias": wide.sum(axis=0)[:many]}\n'
            f"        {last}",
        ),
        seen=("flagos-ai/FlagGems#5392",),
    )


def of_modes(table: Collection) -> None:
    """Of mode normalization."""
    soft, shares = "g = softmax(z, 1)", "w = softmax(log_softmax(z, 1), 0)  # g_nk / N_k"
    y = "y = total(g[:, :, None, None] * (weight * xhat + bias), 1)"
    table.wrong(
        "y summed over the modes, bias added once",
        "y is the sum over the modes, not weighted by the gates; bias is added once",
        (y, "y = total(weight * xhat, 1) + bias[:, :1]"),
        seen=("edwardcapriolo/deliverance#88",),
    )
    table.wrong(
        "softmax of the gates in y without its shift",
        "the softmax of the gates in y overflows: it must subtract the largest logit first; the modes' shares do",
        (soft, "g = exp(z) / total(exp(z), 1)"),
        seen=("uTensor/uTensor#175",),
    )
    for word, at in (("first", "0"), ("last", "-1")):
        table.wrong(
            f"y of the {word} mode alone",
            f"y has the {word} mode's part alone: it is assigned in the loop over the modes, not added up",
            (y, f"y = (g[:, :, None, None] * (weight * xhat))[:, {at}][:, None] + bias[:, :1]"),
            seen=("AviSoori1x/makeMoE#2",) if at == "-1" else (),
        )
    z = 'z = total(m * self.params["gate.weight"], 2)[:, :, 0] + self.params["gate.bias"]  # N K'
    plain = z.replace(' + self.params["gate.bias"]', "")
    added = f'{soft} + self.params["gate.bias"]'
    once = "y = total(g[:, :, None, None] * (weight * xhat), 1) + bias[:, :1]"
    norm = f"{soft}\n        g = g / sqrt(total(g * g, 1))"
    for more, outside in (("", ()), (", the affine map outside", ((y, once),))):
        for name, share in (("", "w = g / total(g, 0)"), (", for y alone", "w = softmax(log_softmax(z, 1), 0)")):
            table.wrong(
                f"gate bias added after the softmax{name}{more}",
                "the gates' bias is added to the softmax, not to the logits before it: the gates do not sum to 1",
                (z, plain),
                (soft, added),
                (shares, share),
                *outside,
                seen=("JavierAntoran/Bayesian-Neural-Networks#15",) if outside else (),
            )
        table.wrong(
            f"gates divided by their Euclidean norm{more}",
            "the gates of a sample are divided by the root of the sum of their squares: they do not sum to 1",
            (soft, norm),
            (shares, "w = softmax(z - np.log(total(exp(2 * (z - largest(z, 1))), 1)) / 2 - largest(z, 1), 0)"),
            *outside,
            seen=("databricks/megablocks#87",) if outside else (),
        )
    for many in (2, 3):
        table.wrong(
            f"the {many} largest gates alone",
            f"only the {many} largest gates of a sample are kept, as in a sparse mixture of experts",
            (
                soft,
                f"rest = z\n        for _ in range(min({many}, z.shape[1]) - 1):\n"
                "            rest = np.where(rest == largest(rest, 1), 0 * z - 1e9, rest)\n"
                "        gone = z < largest(rest, 1)\n        z = np.where(gone, 0 * z - 1e9, z)\n"
                f"        {soft}",
            ),
            (shares, "w = softmax(np.where(gone, 0 * z - 1e9, log_softmax(z, 1)), 0)"),
            seen=("davidmrau/mixture-of-experts#32",) if many == 2 else (),
        )
    keep = "self.running_{0} = (1 - lam) * self.running_{0} + lam * {1}"
    faded = "fade = (1 - lam) ** np.arange(len(first))[::-1].reshape(-1, 1)"
    changed = "self.running_{0} = (1 - lam) ** len(first) * self.running_{0} + lam * fade * {1}"
    table.wrong(
        "running moments decay once for each mode",
        "the running moments fade K times a step: the update of all modes stands in the loop over the modes",
        (keep.format("mean", "first"), f"{faded}\n        {changed.format('mean', 'first')}"),
        (keep.format("mean_square", "second"), changed.format("mean_square", "second")),
        seen=("lucidrains/st-moe-pytorch#13",),
    )


def of_mode_groups(table: Collection) -> None:
    """Of mode group normalization."""
    weights = "w = softmax(log_softmax(z, 2), 1)  # g_nck / C_nk"
    table.wrong(
        "moments over the batch",
        "the moments of the modes are taken over the batch as well as over the channels",
        (
            weights,
            "log = log_softmax(z, 2)\n        w = exp(log - largest(largest(log, 0), 1))\n"
            "        w = w / total(w, (0, 1))",
        ),
        ("mu = total(w * m, 1)", "mu = total(w * m, (0, 1)) + 0 * total(m, 1)"),
        ("var = total(w * mean(d * d, 3)[..., 0], 1)", "var = total(w * mean(d * d, 3)[..., 0], (0, 1)) + 0 * mu"),
        seen=("fkodom/soft-mixture-of-experts#1",),
    )
    table.wrong(
        "one shift for all gates",
        "the gates' softmax subtracts the largest logit of all, not of each row: a whole row may underflow",
        (weights, "top = z - z.max()\n        w = softmax(top - np.log(total(exp(top), 2)), 1)"),
        seen=("manassharma07/crysx_nn#7",),
    )
