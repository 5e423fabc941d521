"""Known variants of mode normalization: each term of its backward pass dropped."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection


def mode_backward(table: Collection) -> None:
    """Each term of the backward pass dropped."""
    drops = {
        "dgates of y": (
            "the gates' gradient lacks the path through y = sum g_k xhat_k",
            "dlogg = g * dg\n",
            "dlogg = 0 * g * dg\n",
        ),
        "dgates of the moments": (
            "the gates' gradient lacks the path through the moments mu_k and sigma_k, as if they were detached there",
            "dlogg = dlogg + w * (dw - total(w * dw, 0))",
            "pass",
        ),
        "dN_k": (
            "the gates' gradient lacks the path through N_k, as if N_k were detached",
            "w * (dw - total(w * dw, 0))",
            "w * dw",
        ),
        "dgates of mu_k": (
            "the gates' gradient lacks the path through mu_k",
            " + total(dmu[..., 0] * m, 2)[:, :, 0]",
            "",
        ),
        "dgates of sigma_k": (
            "the gates' gradient lacks the path through sigma_k",
            "total(dvar * mean(d * d, 3), 2)[:, :, 0, 0] + ",
            "",
        ),
        "softmax normaliser": ("the backward of the gates' softmax lacks − g sum(dg)", " - g * total(dlogg, 1)", ""),
        "dx of mu_k": (
            "dx lacks the path through mu_k",
            "dm = total(w[:, :, None] * dmu[..., 0], 1)[:, 0]  # N C",
            "dm = 0 * m[:, 0]",
        ),
        "dx of sigma_k": (
            "dx lacks the path through sigma_k",
            "dd = dd + dvar * w[:, :, None, None] * 2 * d / length",
            "pass",
        ),
        "dx of the gates": (
            "dx lacks the path through Psi: the gates are detached from x",
            "dm = dm + total(dz[:, :, None]",
            "dm = dm + 0 * total(dz[:, :, None]",
        ),
        "dx of xhat": (
            "dx lacks its direct term",
            "dx = total(dd, 1)[:, 0] + dm",
            "dx = total(dd - dxhat * rstd, 1)[:, 0] + dm",
        ),
        "dgate.weight": ("the gradient of Psi's weight is zero", "dgate_weight = total(", "dgate_weight = 0 * total("),
        "dgate.bias": ("the gradient of Psi's bias is zero", "dgate_bias = total(", "dgate_bias = 0 * total("),
        "dweight": ("dweight is zero", "dweight = total(gate", "dweight = 0 * total(gate"),
        "dbias": ("dbias is zero", "dbias = total(gate", "dbias = 0 * total(gate"),
        "weight in dx": ("dx lacks the factor weight", "dxhat = gate * dyn * weight", "dxhat = gate * dyn"),
        "weight in dgates": (
            "the gates' gradient lacks the factor weight",
            "mixed = dyn * weight * xhat",
            "mixed = dyn * xhat",
        ),
        "gates in dx": ("dx lacks the gates", "dxhat = gate * dyn * weight", "dxhat = dyn * weight / gate.shape[1]"),
        "bias in dgates": ("the gates' gradient lacks the modes' own bias", "mixed = mixed + dyn * bias", "pass"),
        "1/P in dx": ("the path through the spatial mean lacks 1/P", "dm[..., None] / length", "dm[..., None]"),
    }
    for term, (says, old, new) in drops.items():
        table.wrong(f"dropped {term}", says, (old, new))
    odd_terms(table)


def odd_terms(table: Collection) -> None:
    """Terms of the backward pass with a wrong factor, or summed over a wrong axis."""
    gates = "dm = dm + total(dz[:, :, None]"
    table.wrong(
        "1/P missing in dx of the gates",
        "the path of dx through the gates lacks 1/P of the spatial mean",
        (gates, "dm = dm + length * total(dz[:, :, None]"),
    )
    table.wrong(
        "1/P missing in dx of mu_k",
        "the path of dx through mu_k lacks 1/P of the spatial mean",
        (gates, "dm = dm * length + total(dz[:, :, None]"),
    )
    table.wrong(
        "softmax derivative over the batch",
        "the derivative of the gates' softmax sums over the batch, not over the modes",
        ("- g * total(dlogg, 1)", "- g * total(dlogg, 0)"),
    )
    table.wrong(
        "derivative of sigma_k doubled",
        "the derivative of sigma_k lacks its factor 1/2: dx and the gates' gradient hold that path twice",
        ("* rstd * rstd * rstd / 2", "* rstd * rstd * rstd"),
    )
    table.wrong(
        "gates' gradients averaged over the batch",
        "the gradients of Psi's weight and bias are means over the batch, where sums belong",
        ("dgate_weight = total(dz", "dgate_weight = total(1 / len(dz) * dz"),
        ("dgate_bias = total(dz, 0)", "dgate_bias = total(1 / len(dz) * dz, 0)"),
    )
    for name, text in (("weight", "dgate_weight = total(dz"), ("bias", "dgate_bias = total(dz")):
        table.wrong(
            f"dgate.{name} averaged over the batch",
            f"the gradient of Psi's {name} is a mean over the batch, where a sum belongs",
            (text, text.replace("total(dz", "total(1 / len(dz) * dz")),
        )
    table.wrong(
        "dx of the statistics lost",
        "dx lacks all that passes through mean and variance of the modes",
        ("dd = dd + dvar * w[:, :, None, None] * 2 * d / length", "pass"),
        ("dm = total(w[:, :, None] * dmu[..., 0], 1)[:, 0]  # N C", "dm = 0 * m[:, 0]"),
    )
