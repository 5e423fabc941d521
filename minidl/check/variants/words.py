"""What the variables of the plain layers are called, which axes they have, and the equal forms of a layer."""

from __future__ import annotations

TUPLES = ("stride", "padding", "kernel", "dilation")
Form = tuple[tuple[str, str], ...]
WHOLE: Form = ()

CALLED = {  # expressions by their name in words
    "mu": "the mean",
    "var": "the variance",
    "rstd": "1/sigma",
    "centred": "x − mean",
    "m": "the mean over the pixels",
    "z": "the logits",
    "g": "the gates",
    "w": "the gates' shares g/N_k",
    "second": "the second moment",
    "d": "x − mean",
    "dg": "the gradient of the gates",
    "dw": "the gradient of the shares",
    "dlogg": "the gradient of the gates' logarithm",
    "dz": "the gradient of the logits",
    "dm": "the gradient of the means over the pixels",
    "dmu": "the gradient of the mean",
    "dvar": "the gradient of the variance",
    "dd": "the gradient of x − mean",
    "flat": "x",
    "image": "the padded x",
    "image[here]": "the pixels of the window",
    "dimage": "dx",
    "logp": "log p",
    "exp(logp)": "p",
    "chosen": "one-hot",
    "count": "the batch",
    "length": "the pixels' number",
    "modes": "the modes' number",
    "scale": "the folded weight, weight/sigma",
    "shift": "the folded bias, bias − mean weight/sigma",
    "peak": "the largest logit",
    "shifted": "the logits less the largest",
    "e": "their exponentials",
    "denominator": "the sum of the exponentials",
}
COMMON_TARGETS = {
    "(high, wide)": "the reach of a window",
    "(rows, columns)": "the size of y",
    "(top, left)": "where a tap begins",
    "across": "the columns of a tap",
    "down": "the rows of a tap",
    "gradients.for": "the windows of backward",
    "for": "which windows",
    "compute.for": "the windows",
    "dout": "dy",
    "out": "y",
    "(dimage, dweight)": "dx and dweight",
}
TARGETS = {
    "mode_norm": {
        "m": "the mean over the pixels that the gates see",
        "z": "the gates' logits",
        "g": "the gates",
        "w": "the gates' shares",
        "compute.mu": "the modes' means",
        "compute.d": "x − mu_k",
        "compute.var": "the modes' variances",
        "second": "the modes' second moments",
        "compute.rstd": "1/sigma_k",
        "compute.xhat": "xhat_k",
        "update": "the update of the running moments",
        "dg": "the gradient of the gates",
        "dw": "the gradient of the shares",
        "dlogg": "the gradient of the gates' logarithm",
        "dz": "the gradient of the logits",
        "dm": "the gradient of the means over the pixels",
        "gradients.dmu": "the gradient of the modes' means",
        "gradients.dvar": "the gradient of the modes' variances",
        "gradients.dd": "the gradient of x − mu_k",
        "dgate_weight": "dgate.weight",
        "dgate_bias": "dgate.bias",
    },
    "conv2d": {
        "y": "y",
        "compute.term": "y",
        "gradients.term": "dx",
        "seen": "the pixels of a tap",
        "image": "the padded x",
        "dimage": "dx",
        "full": "the kernel with its groups",
    },
    "max_pool2d": {
        "dimage": "dx",
        "best, winner": "the maximum",
        "greater": "the maximum",
        "key": "what the maximum is sought of",
        "share": "dx",
    },
    "avg_pool2d": {"dimage": "dx", "best": "the sum", "area": "the count", "share": "dx"},
}
TARGETS["mode_group_norm"] = {**TARGETS["mode_norm"], "dk": "the gradient of xhat_k"}
TARGETS["softmax_cross_entropy"] = {
    "shifted": "the logits less the largest",
    "e": "the exponentials",
    "denominator": "the sum of the exponentials",
    "logp": "log p",
}
NORM_TARGETS = {
    "scale": "the folded weight",
    "shift": "the folded bias",
    "mu": "the mean",
    "var": "the variance",
    "centred": "x − mean",
    "rstd": "1/sigma",
    "update": "the update of the running statistics",
    "d": "dy weight",
    "dxhat": "dy weight",
}
for _layer in ("batch_norm", "instance_norm", "layer_norm", "group_norm", "layer_norm_last", "rms_norm"):
    TARGETS[_layer] = NORM_TARGETS

GROUPED = {"x": "NCHW", "xhat": "NCHW", "weight": "1C11", "split": "NGV", "centred": "NGV", "rstd": "NG1", "dy": "NCHW"}
GROUPED |= {"mu": "NG1", "var": "NG1", "d": "NGV", "h": "NGV", "bias": "1C11", "dx": "NGV", "dweight": "1C11"}
ROWS = dict.fromkeys(
    ("x", "mu", "centred", "var", "rstd", "xhat", "weight", "bias", "dy", "dxhat", "dx", "scale", "shift"), "R"
)
ROWS |= {"dweight": "P", "dbias": "P"}
DIMS: dict[str, dict[str, str]] = {  # the axes of each array, 1 where its length is 1; R: rows of any rank
    "batch_norm": {
        "x": "NCHW", "dy": "NCHW", "xhat": "NCHW", "centred": "NCHW", "dxhat": "NCHW", "weight": "1C11",
        "bias": "1C11", "scale": "1C11", "shift": "1C11",
        "mu": "1C11", "var": "1C11", "rstd": "1C11", "dx": "NCHW", "dweight": "1C11",
        "dbias": "1C11", "old_mean": "C", "old_var": "C",
    },
    "instance_norm": GROUPED,
    "layer_norm": GROUPED,
    "group_norm": GROUPED,
    "layer_norm_last": ROWS,
    "rms_norm": ROWS,
    "mode_norm": {
        "x": "NCHW", "flat": "NCL", "m": "N1C", "z": "NK", "g": "NK", "w": "NK", "mu": "1KC", "d": "NKCL",
        "var": "1KC", "second": "1KC", "rstd": "1KC", "xhat": "NKCL", "dyn": "N1CL", "gate": "NK11",
        "dweight": "KC", "dbias": "KC", "mixed": "NKCL", "dg": "NK", "dxhat": "NKCL", "dd": "NKCL", "dlogg": "NK",
        "dvar": "1KC1", "dmu": "1KC1", "dw": "NK", "dm": "NC", "dz": "NK", "weight": "1KC1", "bias": "1KC1",
        "y": "NCL", "dx": "NCL", "dgate_weight": "KC", "dgate_bias": "K", "first": "KC",
    },
    "mode_group_norm": {
        "x": "NCHW", "flat": "NC1L", "m": "NC1", "z": "NCK", "g": "NCK", "w": "NCK", "mu": "N1K", "d": "NCKL",
        "var": "N1K", "rstd": "N1K1", "xhat": "NCHW", "dk": "NC1L", "dd": "NCKL", "dvar": "N1K1", "dmu": "N1K",
        "spread": "NCK", "dw": "NCK", "dm": "NC1", "dlogg": "NCK", "dz": "NCK", "dy": "NCHW", "dx": "NCL",
        "dweight": "1C11", "dbias": "1C11", "dgate_weight": "K1", "dgate_bias": "K",
    },
    "conv2d": {
        "x": "NIHW", "image": "NIHW", "weight": "OIHW", "dweight": "OIHW", "dy": "NOHW", "y": "NOHW",
        "term": "NOHW", "dimage": "NIHW", "seen": "NGIHW", "dout": "NGOHW",
    },
    "max_pool2d": dict.fromkeys(("x", "image", "dy", "best", "dimage", "winner", "greater", "wins", "share"), "NCHW"),
    "avg_pool2d": dict.fromkeys(("x", "image", "dy", "best", "dimage", "area", "share", "inside"), "NCHW"),
    "linear": {"x": "NI", "dy": "NO", "y": "NO", "dx": "NI", "dweight": "OI"},
    "softmax_cross_entropy": {
        "x": "NC", "logp": "NC", "chosen": "NC", "dx": "NC", "y": "", "dy": "", "peak": "N1", "shifted": "NC",
        "e": "NC", "denominator": "N1",
    },
}  # fmt: skip
OF_PARAMS = {  # the axes of parameters
    "conv2d": {"weight": "OIHW", "bias": "O"},
    "linear": {"weight": "OI", "bias": "O"},
    "mode_norm": {"gate.weight": "KC", "gate.bias": "K"},
    "mode_group_norm": {"gate.weight": "K1", "gate.bias": "K", "weight": "C", "bias": "C"},
    "layer_norm_last": {"weight": "R", "bias": "R"},
    "rms_norm": {"weight": "R"},
}
IN, OUT = ("the inputs", 'self.params["weight"].shape[1]'), ("the outputs", 'self.params["weight"].shape[0]')
AREA = ("the kernel's area", 'self.params["weight"][0, 0].size')
GATES = ("the modes", 'len(self.params["gate.bias"])')
SCALES: dict[str, tuple[tuple[str, str], ...]] = {  # counts that may multiply or divide, and where they are found
    "mode_norm": (GATES, ("the channels", 'self.params["gate.weight"].shape[1]')),
    "mode_group_norm": (GATES, ("the channels", 'len(self.params["bias"])')),
    "conv2d": (IN, OUT, AREA, ("the values of a kernel", 'self.params["weight"][0].size')),
    "linear": (IN, OUT),
    "softmax_cross_entropy": (("the batch", 'len(self.params["labels"])'),),
}
SHARES = (("w = softmax(log_softmax(z, 1), 0)  # g_nk / N_k", "w = g / total(g, 0)"),)
OF_GROUPS = (("w = softmax(log_softmax(z, 2), 1)  # g_nck / C_nk", "w = g / total(g, 1)"),)
DIFFERENCE = (
    ("            var = total(w[:, :, None] * mean(d * d, 3)[..., 0], 0)  # 1 K C\n", ""),
    ("            self.update(mu[0]", "            var = second - mu * mu\n            self.update(mu[0]"),
)  # fmt: skip
OUTSIDE = (
    (
        "y = total(g[:, :, None, None] * (weight * xhat + bias), 1)",
        "y = weight[:, 0] * total(g[:, :, None, None] * xhat, 1)[:, 0] + bias[:, 0]",
    ),
)  # fmt: skip
DIRECT = (("module", "direct_conv2d"),)
BY_KEY = (
    ("best, winner = image[where[0]]", "key = padded(x, padding, -np.inf)\n        best, winner = image[where[0]]"),
    (
        "real(image[here]) > real(best), bool)\n                if",
        "real(key[here]) > real(top), bool)\n                if",
    ),
    (
        "best, winner = np.where(greater, image[here], best), np",
        "top = np.where(greater, key[here], top)\n                "
        "best, winner = np.where(greater, image[here], best), np",
    ),
    (
        "        for index, here in enumerate(where[1:], 1):",
        "        top = key[where[0]]\n        for index, here in enumerate(where[1:], 1):",
    ),
)
FOLDED = (
    (
        "return weight * xhat + bias",
        "scale = weight * rstd\n        shift = bias - mu * scale\n        return x * scale + shift",
    ),
)
WRITTEN_OUT = (
    (
        "logp = log_softmax(x, 1)",
        "peak = largest(x, 1)\n        shifted = x - peak\n        e = exp(shifted)\n"
        "        denominator = total(e, 1)\n        logp = shifted - log(denominator)",
    ),
)
FORMS: dict[str, tuple[tuple[Form, tuple[str, ...]], ...]] = {  # equal forms, and which statements of each to change
    "mode_norm": (
        (WHOLE, ()),
        (SHARES, ("g", "w")),
        (DIFFERENCE, ("mu", "second", "var")),
        (OUTSIDE, ("y",)),
        (OUTSIDE + SHARES, ("g", "w")),
    ),
    "conv2d": ((WHOLE, ()), (DIRECT, ())),
    "max_pool2d": ((WHOLE, ()), (BY_KEY, ("key",))),
    "mode_group_norm": ((WHOLE, ()), (OF_GROUPS, ("g", "w"))),
    "batch_norm": ((WHOLE, ()), (FOLDED, ("scale", "shift", "return"))),
    "layer_norm_last": ((WHOLE, ()), (FOLDED, ("scale", "shift", "return"))),
    "softmax_cross_entropy": ((WHOLE, ()), (WRITTEN_OUT, ("shifted", "e", "denominator", "logp"))),
}
