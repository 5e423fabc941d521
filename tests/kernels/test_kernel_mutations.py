"""A wrong kernel does not pass: each of these one-word changes of a source makes a comparison with NumPy fail."""

import pytest

from kernels import needs
from kernels.kernel_cases import CASES, FOLDER, SOURCES, Device, check

pytestmark = needs.GXX

FAR = "norm, a mean of 1e4"  # where delta, the rest of a mean, matters: in float32
FAR_BATCH, FAR_GROUP, FAR_MODE, FAR_CHANNEL = (
    f"{norm}, a mean of 1e4" for norm in ("batch_norm", "group_norm", "mode_norm", "mode_group_norm")
)

# source: [(the case that notices, what the source says, what its first place is changed to)]
MUTANTS = {
    "moments": [
        ("norm", "double(channel[p * N]) - o;", "double(channel[p * N]);"),
        ("norm", "INDEX p = s;", "INDEX p = 0;"),
        ("norm", "p < P;", "p + 1 < P;"),
        ("norm", "p += S", "p += S + 1"),
        ("norm", "channel = x + c * P * N + n", "channel = x + c * P * N"),
        ("norm", "square += d * d", "square += d"),
        ("norm", "double o = x[c * P * N + n]", "double o = x[c * P * N]"),
        ("norm", "s < S", "s + 1 < S"),
        ("norm", "square += squares[(c * S + s) * N + n]", "square += squares[c * S * N + n]"),
        ("norm", "sum / double(P)", "sum"),
        ("norm", "square / double(P)", "square"),
        ("norm", " - d * d", ""),
        (FAR, "delta[t] = o - double(rounded) + d", "delta[t] = o - double(rounded)"),
        (FAR, "m0[t] = rounded", "m0[t] = o + d"),
    ],
    "scale_shift": [
        ("norm", "(x[i] - o) * a + b", "x[i] * a + b"),
        ("norm", "(x[i] - o) * a + b", "(x[i] - o) + b"),
        ("norm", "(x[i] - o) * a + b", "(x[i] - o) * a"),
        (FAR, " - delta[small] * scale[small]", ""),
        (FAR, "delta[small] * scale[small]", "delta[small]"),
        ("norm", "small = c * N + n", "small = c * N"),
        ("norm", "p < P;", "p + 1 < P;"),
    ],
    "scale_shift_sums": [
        ("norm", "double(x[i] - o)", "double(x[i])"),
        ("norm", "double(dy[i]) * double(x[i] - o)", "double(x[i] - o)"),
        ("norm", "sum += double(dy[i])", "sum += 1"),
        ("norm", "INDEX p = s;", "INDEX p = 0;"),
        ("norm", "s < S", "s + 1 < S"),
        (FAR, " - delta[t] * sum", ""),
        (FAR, "delta[t] * sum", "delta[t]"),
        ("norm", "du[t] = sum", "du[t] = product"),
    ],
    "scale_shift_backward": [
        ("norm", "dy[i] * a +", "dy[i] +"),
        ("norm", " + along", ""),
        ("norm", "(x[i] - o) * b", "x[i] * b"),
        ("norm", " + rest;", ";"),
        ("norm", "2 / double(P) * dv", "1 / double(P) * dv"),
        ("norm", "2 / double(P) * dv", "2 * dv"),
        ("norm", "dm[small] - scale[small] * du[small]", "dm[small]"),
        ("norm", "dm[small] - scale[small] * du[small]", "scale[small] * du[small]"),
        ("norm", " / double(P) - slope", " - slope"),
        (FAR, " - slope * delta[small]", ""),
    ],
    "batch_norm": [
        ("batch_norm", "mu /= double(N)", "mu /= double(N - 1)"),
        ("batch_norm", "var += v[j] + e * e", "var += v[j]"),
        ("batch_norm", "var += v[j] + e * e", "var += e * e"),
        ("batch_norm", "var + eps", "var"),
        ("batch_norm", "double(bias[c]) + s[t] * d[t]", "double(bias[c])"),
        ("batch_norm", "double(weight[c]) * r", "r"),
        ("batch_norm", "var * unbias", "var"),
        ("batch_norm, second_moment", "var + mean * mean", "var"),
        ("batch_norm", "momentum * mean", "mean"),
        ("batch_norm", "(1 - momentum) * running_spread[c] + ", ""),
        (FAR_BATCH, "mu += m0[j] - origin + delta[j]", "mu += m0[j] - origin"),
        (FAR_BATCH, "d[t] = m0[t] - origin + delta[t] - mu", "d[t] = m0[t] - origin - mu"),
        ("batch_norm", "dscale += ds[j] + du[j] * d[j]", "dscale += ds[j]"),
        ("batch_norm", "-r * r / 2 * s[t]", "-r * r * s[t]"),
        ("batch_norm", "du[t] - sum / double(N)", "du[t]"),
        ("batch_norm", " + 2 / double(N) * dvar * d[t]", ""),
        ("batch_norm", "dvar / double(N);", "dvar;"),
        ("batch_norm", "double(dweight[c]) + r * dscale", "r * dscale"),
        ("batch_norm", "double(dbias[c]) + sum", "sum"),
    ],
    "group_norm": [
        ("group_norm", "first = c / G * G * N + n", "first = c / G * N + n"),
        ("group_norm", "mu /= double(G)", "mu /= double(N)"),
        ("group_norm", "var += v[j] + e * e", "var += v[j]"),
        ("group_norm", "var / double(G) + eps", "var / double(G)"),
        ("group_norm", "double(bias[c]) + s[t] * d[t]", "double(bias[c])"),
        (FAR_GROUP, "mu += m0[j] - origin + delta[j]", "mu += m0[j] - origin"),
        (FAR_GROUP, "d[t] = m0[t] - origin + delta[t] - mu", "d[t] = m0[t] - origin - mu"),
        ("group_norm", "product += s[j] * (ds[j] + du[j] * d[j])", "product += s[j] * ds[j]"),
        ("group_norm", "sum += s[j] * du[j]", "sum += du[j]"),
        ("group_norm", "/ 2 * product", "* product"),
        ("group_norm", "2 * dvar * d[t] - sum", "2 * dvar * d[t]"),
        ("group_norm", "2 * dvar * d[t] - sum", "- sum"),
        ("group_norm", "dv[t] = dvar / double(G)", "dv[t] = dvar"),
        ("group_norm", "of_weight += rstd[j] * (ds", "of_weight += (ds"),
        ("group_norm", "double(dbias[c]) + of_bias", "of_bias"),
    ],
    "mode_norm": [
        ("mode_norm", "double z = gate_bias[k]", "double z = 0"),
        ("mode_norm", "log_g[k * N + n] -= log(total);", ""),
        ("mode_norm", "w[t] = exp(log_g[t] - largest) / total", "w[t] = exp(log_g[t] - largest)"),
        ("mode_norm", "second += w[k * N + j] * (v[row + j] + e * e)", "second += w[k * N + j] * v[row + j]"),
        ("mode_norm", "sqrt(second + eps)", "sqrt(second)"),
        ("mode_norm, an affine pair per mode", "affine = R == 1 ? c : t", "affine = c"),
        ("mode_norm", "scale[t] * first - double(bias[affine])", "scale[t] * first"),
        ("mode_norm", "running_mean[t] + momentum * from_zero", "running_mean[t] + momentum * first"),
        ("mode_norm", "second + from_zero * from_zero", "second"),
        ("mode_norm", "* slope - rest", "* slope"),
        (FAR_MODE, " - o + delta[row + j]);", " - o);"),
        (FAR_MODE, "u[t] = (m0[t] - origin[c] + delta[t])", "u[t] = (m0[t] - origin[c])"),
        ("mode_norm", "of_s - mu[t] * of_u", "of_s"),
        ("mode_norm", "-rstd[t] * rstd[t] / 2", "-rstd[t] * rstd[t]"),
        ("mode_norm", " - du[j] * offset[kc]", ""),
        ("mode_norm", "of_w += m * dmu[kc] + ", "of_w += "),
        ("mode_norm", "(v[j] + e * e) * dvar[kc]", "v[j] * dvar[kc]"),
        ("mode_norm", "w[t] * (dw[t] - mean)", "w[t] * dw[t]"),
        ("mode_norm", "dlog_g[kn] - g[kn] * total", "dlog_g[kn]"),
        ("mode_norm", "dmu[kc] - 2 * dvar[kc] * mu[kc]", "dmu[kc]"),
        ("mode_norm", " + double(gate_weight[kc]) * of_z", ""),
        ("mode_norm", "of_m + 2 * of_v * (m0", "of_m + of_v * (m0"),
        ("mode_norm", "product += dz[k * N + j] *", "product += dz[j] *"),
        ("mode_norm", "R == 1 ? K * C : t + 1", "t + 1"),
        ("mode_norm, an affine pair per mode", "R == 1 ? K * C : t + 1", "K * C"),
        ("mode_norm", "double(dgate_weight[t]) + product", "product"),
    ],
    "mode_group_norm": [
        ("mode_group_norm", " + double(gate_bias[k])", ""),
        ("mode_group_norm", "log_g[i] -= log(total);", ""),
        ("mode_group_norm", "w[c * K * N + t] /= total;", ""),
        ("mode_group_norm, pooled", "spatial ? v[c * N + n] : 0", "v[c * N + n]"),
        ("mode_group_norm", "(spatial ? v[c * N + n] : 0) + d * d);", "d * d);"),
        ("mode_group_norm", "sqrt(second + eps)", "sqrt(second)"),
        ("mode_group_norm", "shift[t] = b / double(K)", "shift[t] = b"),
        ("mode_group_norm", " + double(bias[c])", ""),
        (FAR_CHANNEL, "(m0[t] - m0[n] + delta[t] - mu[k * N + n])", "(m0[t] - m0[n] - mu[k * N + n])"),
        ("mode_group_norm", "ds[c * N + n] + du[c * N + n] * d", "ds[c * N + n]"),
        ("mode_group_norm", "of_mu -= a * du[c * N + n] * rstd[t]", "of_mu -= a * du[c * N + n]"),
        ("mode_group_norm", "rstd[t] / 2 * of_rstd", "rstd[t] * of_rstd"),
        ("mode_group_norm", "of_mu * d + of_var", "of_var"),
        ("mode_group_norm", "(dlog_g[c * K * N + t] - mean)", "dlog_g[c * K * N + t]"),
        ("mode_group_norm", "dlog_g[i] - g[i] * total", "dlog_g[i]"),
        ("mode_group_norm", "dmu[kn] + 2 * dvar[kn] * d", "dmu[kn]"),
        ("mode_group_norm", " + double(gate_weight[k]) * dz[i]", ""),
        ("mode_group_norm, pooled", "dv[t] = spatial ? of_v : 0", "dv[t] = of_v"),
        ("mode_group_norm", "ds[j] * scale[j] + du[j] * shift[j]", "ds[j] * scale[j]"),
        ("mode_group_norm", "double(dgate_bias[k]) + sum", "sum"),
    ],
    "im2col": [
        ("im2col, stride and padding", "sh * h + i - ph", "sh * h + i"),
        ("im2col, stride and padding", "sw * w + j - pw", "sw * w + j"),
        ("im2col, stride and padding", "sh * h + i", "h + i"),
        ("im2col, stride and padding", "b < W", "b + 1 < W"),
        ("im2col, stride and padding", "a >= 0 && ", "a >= 1 && "),
        ("im2col", "(c * kh + i) * kw + j", "(c * kw + i) * kw + j"),
        ("im2col", "i < kh", "i < kw"),
    ],
    "col2im": [
        ("im2col, stride and padding", " || h * sh != a + ph - i", ""),
        ("im2col, stride and padding", " || w * sw != b + pw - j", ""),
        ("im2col", "h >= Ho", "h > Ho"),
        ("im2col", "a + ph < i || ", ""),
        ("im2col", "sum += cols", "sum = cols"),
        ("im2col", "(c * kh + i) * kw + j", "(c * kh + j) * kw + i"),
    ],
    "max_pool": [
        ("max_pool", "if (value > best ||", "if (value >= best ||"),
        ("max_pool, NaN", " || value != value", ""),
        ("max_pool, NaN", "value > best ||", "value > best || best != best ||"),
        ("max_pool", "place = i * kw + j;", "place = i * kh + j;"),
        ("max_pool, overlapping", "i = i0", "i = 0"),
        ("max_pool, overlapping", "w + j - pw < W", "w + j < W"),
        ("max_pool", "if (first[window] == i * kw + j) sum += dy[window]", "sum += dy[window]"),
        ("max_pool, overlapping", "sum += dy[window]", "sum = dy[window]"),
        ("max_pool, overlapping", " || h * sh != a + ph - i", ""),
        ("max_pool", "REAL best = log(REAL(0))", "REAL best = 0"),
    ],
    "avg_pool": [
        ("avg_pool", "y[t] = sum / REAL(kh * kw)", "y[t] = sum"),
        ("avg_pool, overlapping", "sum / REAL(kh * kw)", "sum / REAL(kh * kh)"),
        ("avg_pool, overlapping", "a >= 0 && ", "a >= 1 && "),
        ("avg_pool", "sum += row", "sum = row"),
        ("avg_pool, overlapping", "+ n] / REAL(kh * kw)", "+ n]"),
        ("avg_pool, overlapping", "sum += column", "sum = column"),
        ("avg_pool, overlapping", " || h * sh != a + ph - i", ""),
    ],
    "relu": [
        ("relu", "x[t] < 0 ? 0 : x[t]", "x[t] > 0 ? x[t] : 0"),
        ("relu", "x[t] < 0 ? 0 : x[t]", "x[t]"),
        ("relu", "y[t] > 0", "y[t] >= 0"),
        ("relu", "dy[t] * ", ""),
    ],
    "softmax_cross_entropy": [
        ("softmax_cross_entropy, far logits", "exp(logits[k * size + n] - largest)", "exp(logits[k * size + n])"),
        ("softmax_cross_entropy, far logits", "largest = logits[k * size + n];", ";"),
        ("softmax_cross_entropy", "p[k * size + n] /= REAL(total);", ";"),
        ("softmax_cross_entropy", "total += double(e)", "total = double(e)"),
        ("softmax_cross_entropy", "labels[n] * size + n] - largest", "labels[n] * size + n]"),
        ("softmax_cross_entropy", "labels[n] * size + n]", "labels[n] * size]"),
        ("softmax_cross_entropy", "labels[n] >= 0", "labels[n] > 0"),
        ("softmax_cross_entropy", "p[t] / REAL(N)", "p[t]"),
        ("softmax_cross_entropy", "labels[n] == k ? own", "labels[n] == k ? 1"),
        ("softmax_cross_entropy", "labels[n] == k", "labels[n] != k"),
        ("softmax_cross_entropy, smoothed", "own * target + rest", "target + rest"),
        ("softmax_cross_entropy, smoothed", "rest * REAL(sum)", "rest"),
        ("softmax_cross_entropy, smoothed", "sum += double(logits[k * size + n] - largest)", "sum += 1"),
        ("softmax_cross_entropy, smoothed", " : 0) - rest", " : 0)"),
    ],
    "sgd": [
        ("sgd", "REAL step = g[t]", "REAL step = -g[t]"),
        ("sgd, momentum", "p[t] * weight_decay + step", "step"),
        ("sgd, momentum", "v[t] * momentum + step", "momentum + step"),
        ("sgd, momentum", "v[t] * momentum + step", "v[t] * momentum"),
        ("sgd, momentum", "if (momentum != 0 && !nesterov) step = v[t];", ""),
        ("sgd, nesterov", " && !nesterov", ""),
        ("sgd, nesterov", "if (nesterov) moved -= v[t] * ahead;", ""),
        ("sgd, nesterov", "v[t] * ahead", "v[t] * lr"),
        ("sgd", "step * lr", "step"),
    ],
    "adam": [
        ("adamw", "p[t] * shrink", "p[t]"),
        ("adam, decay", "own * decay + step", "step"),
        ("adam, decay", "own * decay + step", "own * decay"),
        ("adam", "m[t] * ratio + step", "step"),
        ("adam", "(m[t] * ratio + step) * rest1", "(m[t] * ratio + step)"),
        ("adam", "v[t] * beta2 + ", ""),
        ("adam", "step * step * rest2", "step * rest2"),
        ("adam", "step * step * rest2", "step * step"),
        ("adam", "sqrt(v[t])", "v[t]"),
        ("adam", " * correction", ""),
        ("adam", "correction + eps) * rate", "correction) * rate"),
        ("adam", "eps) * rate;", "eps);"),
    ],
}  # fmt: skip


TESTS = [
    pytest.param(source, case, old, new, id=f"{source}: {old} -> {new or 'nothing'}")
    for source, changes in MUTANTS.items()
    for case, old, new in changes
]


@pytest.mark.parametrize(("source", "case", "old", "new"), TESTS)
def test_a_wrong_kernel_is_found_out(source, case, old, new):
    text = (FOLDER / f"{source}.cu").read_text("utf-8")
    assert old in text
    mutant = text.replace(old, new, 1)
    device = Device(flags=("-O0", "-Wno-error"), change=lambda code: mutant if code == text else code)
    with pytest.raises(AssertionError, match=f"{case}: "):
        check(case, "float32" if case.endswith("a mean of 1e4") else "float64", device)


def test_every_source_has_mutants():
    assert set(MUTANTS) == set(SOURCES)
    assert {case for changes in MUTANTS.values() for case, *_ in changes} <= set(CASES)
