"""A wrong kernel does not pass: each of these one-word changes of a source makes a comparison with NumPy fail."""

import pytest

from kernels import needs
from kernels.kernel_cases import CASES, FOLDER, SOURCES, Device, check

pytestmark = needs.GXX

FAR = "norm, a mean of 1e4"

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
        ("norm", " + (x[i] - o) * b", ""),
        ("norm", "(x[i] - o) * b", "x[i] * b"),
        ("norm", " + rest;", ";"),
        ("norm", "2 / double(P) * dv", "1 / double(P) * dv"),
        ("norm", "2 / double(P) * dv", "2 * dv"),
        ("norm", "dm[small] - scale[small] * du[small]", "dm[small]"),
        ("norm", "dm[small] - scale[small] * du[small]", "scale[small] * du[small]"),
        ("norm", " / double(P) - slope", " - slope"),
        (FAR, " - slope * delta[small]", ""),
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
        ("max_pool", "if (value > row) j_row = j", "if (value >= row) j_row = j"),
        ("max_pool", "i == 0 || row > best", "i == 0 || row >= best"),
        ("max_pool, NaN", "i == 0 || row > best", "row > best"),
        ("max_pool, NaN", "a > b || a != a ? a : b", "a > b ? a : b"),
        ("max_pool", "place = i * kw + j_row", "place = i * kh + j_row"),
        ("max_pool, overlapping", "N + n] : outside;", "N + n] : 0;"),
        ("max_pool", "if (first[window] == i * kw + j) sum += dy[window]", "sum += dy[window]"),
        ("max_pool, overlapping", "sum += dy[window]", "sum = dy[window]"),
        ("max_pool, overlapping", " || h * sh != a + ph - i", ""),
        ("max_pool", "REAL best = outside", "REAL best = 0"),
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
        ("softmax_cross_entropy", "REAL(1 / double(N))", "1"),
        ("softmax_cross_entropy", "labels[n] == k", "labels[n] != k"),
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
}  # fmt: skip


TESTS = [
    pytest.param(source, case, old, new, id=f"{source}: {old} -> {new or 'nothing'}")
    for source, changes in MUTANTS.items()
    for case, old, new in changes
]


@pytest.mark.parametrize(("source", "case", "old", "new"), TESTS)
def test_a_wrong_kernel_is_found_out(source, case, old, new):
    text = (FOLDER / f"{source}.cu").read_text()
    assert old in text
    mutant = text.replace(old, new, 1)
    device = Device(flags=("-O0", "-Wno-error"), change=lambda code: mutant if code == text else code)
    with pytest.raises(AssertionError, match=f"{case}: "):
        check(case, "float32" if case == FAR else "float64", device)


def test_every_source_has_mutants():
    assert set(MUTANTS) == set(SOURCES)
    assert {case for changes in MUTANTS.values() for case, *_ in changes} <= set(CASES)
