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
