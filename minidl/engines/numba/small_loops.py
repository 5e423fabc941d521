"""The compiled loops of the norms' small functions, which `small` calls.

A norm's own file says what they compute. The small arrays, (N, C) in the norms, are (C, N) here, the batch innermost.
Backward adds the parameters' gradients itself. Sums over modes or channels run along the batch, value by value; those
over the batch are `_dot` and `_sum`, which may regroup: everything else keeps its order, since means are differences.
"""

from __future__ import annotations

import numpy as np

from minidl.engines.numba.compile import jit

_LEAST = 1e-200  # sums of gates below this are formed from their logarithms


@jit(inner=True)
def _sum(a):
    total = 0.0
    for i in range(len(a)):
        total += a[i]
    return total


@jit(inner=True)
def _dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@jit(in_order=True)
def batch_norm(m0, delta, v, weight, bias, running_mean, running, made, rstd, eps, momentum, unbias, second):
    channels, n = v.shape
    squared = np.empty(n)
    for c in range(channels):
        s, u, d = made[0, c], made[1, c], made[2, c]
        first, rest, within = m0[c], delta[c], v[c]
        origin = first[0]  # means are counted from here
        for i in range(n):
            d[i] = (first[i] - origin) + rest[i]
        mu = _sum(d) / n
        for i in range(n):
            d[i] -= mu
            squared[i] = within[i] + d[i] * d[i]
        var = _sum(squared) / n
        r = 1 / np.sqrt(var + eps)
        scale, shift, mean = weight[c] * r, bias[c], mu + origin
        for i in range(n):
            s[i] = scale
            u[i] = shift + scale * d[i]
        rstd[c] = r
        running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
        stored = var + mean * mean if second else var * unbias
        running[c] = (1 - momentum) * running[c] + momentum * stored


@jit(in_order=True)
def batch_norm_backward(ds, du, scale, d, rstd, made, of_weight, of_bias):
    channels, n = ds.shape
    for c in range(channels):
        dm, dv, ds_c, du_c, d_c = made[0, c], made[1, c], ds[c], du[c], d[c]
        shift, s, r = _sum(du_c), scale[c, 0], rstd[c]
        dscale = _sum(ds_c) + _dot(du_c, d_c)  # of weight·rstd, which s and u share
        of_weight[c] += r * dscale
        of_bias[c] += shift
        dvar = -(r * r) / 2 * s * dscale
        for i in range(n):
            dm[i] = s * du_c[i] - s * shift / n + 2 / n * dvar * d_c[i]
            dv[i] = dvar / n


@jit(in_order=True)
def group_norm(m0, delta, v, weight, bias, made, rstd, eps):
    channels, n = v.shape
    groups = len(rstd)
    size = channels // groups
    mu = np.empty(n)
    for g in range(groups):
        origin, r = m0[g * size], rstd[g]  # means are counted from each group's first channel
        for i in range(n):
            mu[i] = r[i] = 0
        for c in range(g * size, (g + 1) * size):
            d, first, rest = made[2, c], m0[c], delta[c]
            for i in range(n):
                d[i] = (first[i] - origin[i]) + rest[i]
                mu[i] += d[i]
        for c in range(g * size, (g + 1) * size):
            d, within = made[2, c], v[c]
            for i in range(n):
                d[i] -= mu[i] / size
                r[i] += within[i] + d[i] * d[i]
        for i in range(n):
            r[i] = 1 / np.sqrt(r[i] / size + eps)
        for c in range(g * size, (g + 1) * size):
            s, u, d = made[0, c], made[1, c], made[2, c]
            scale, shift = np.float64(weight[c]), np.float64(bias[c])
            for i in range(n):
                s[i] = scale * r[i]
                u[i] = shift + s[i] * d[i]


@jit(in_order=True)
def group_norm_backward(ds, du, scale, d, rstd, weight, made, of_weight, of_bias):
    channels, n = ds.shape
    groups = len(rstd)
    size = channels // groups
    dscale, shifted, dvar = np.empty(n), np.empty(n), np.empty(n)
    for g in range(groups):
        r = rstd[g]
        for i in range(n):
            shifted[i] = dvar[i] = 0
        for c in range(g * size, (g + 1) * size):
            ds_c, du_c, d_c, s = ds[c], du[c], d[c], scale[c]
            w = np.float64(weight[c])
            for i in range(n):
                dscale[i] = ds_c[i] + du_c[i] * d_c[i]  # of weight·rstd, which s and u share
                shifted[i] += s[i] * du_c[i]
                dvar[i] += w * dscale[i]
            of_weight[c] += _dot(r, dscale)
            of_bias[c] += _sum(du_c)
        for i in range(n):
            dvar[i] *= -(r[i] * r[i] * r[i]) / 2 / size
            shifted[i] /= size
        for c in range(g * size, (g + 1) * size):
            dm, dv, du_c, d_c, s = made[0, c], made[1, c], du[c], d[c], scale[c]
            for i in range(n):
                dm[i] = s[i] * du_c[i] - shifted[i] + 2 * dvar[i] * d_c[i]
                dv[i] = dvar[i]


@jit(in_order=True)
def _softmax(z, g):
    """Write the softmax over the first axis of z (K, N) into g, and into z its logarithm."""
    modes, n = z.shape
    for i in range(n):
        top = z[0, i]
        for k in range(1, modes):
            if z[k, i] > top or z[k, i] != z[k, i]:
                top = z[k, i]
        total = 0.0
        for k in range(modes):
            z[k, i] -= top
            g[k, i] = np.exp(z[k, i])
            total += g[k, i]
        log_total = np.log(total)
        for k in range(modes):
            z[k, i] -= log_total
            g[k, i] /= total


@jit(in_order=True)
def mode_norm(
    m0, delta, v, gate_weight, gate_bias, weight, bias, running_mean, running, of_gates, of_modes, made, eps, momentum
):
    modes, channels, n = len(gate_weight), len(v), v.shape[1]
    g, w = of_gates[0], of_gates[1]
    mu, means, var, rstd, scale = of_modes[0], of_modes[1], of_modes[2], of_modes[3], of_modes[4]
    near, value, away = made[2], np.empty(n), np.empty(n)

    for k in range(modes):  # z = Psi(m), for now in w
        z = w[k]
        for i in range(n):
            z[i] = gate_bias[k]
    for c in range(channels):
        first, rest, d = m0[c], delta[c], near[c]
        for i in range(n):
            value[i] = first[i] + rest[i]
        for k in range(modes):
            z, psi = w[k], np.float64(gate_weight[k, c])
            for i in range(n):
                z[i] += psi * value[i]
        origin = _sum(value) / n  # means are counted from here
        means[0, c] = origin
        for i in range(n):
            d[i] = (first[i] - origin) + rest[i]
    _softmax(w, g)

    for k in range(modes):  # w = g / N_k
        log_g, g_k = w[k], g[k]
        total = _sum(g_k)
        if total > _LEAST:
            for i in range(n):
                log_g[i] = g_k[i] / total
        else:
            top = log_g.max()
            for i in range(n):
                log_g[i] = np.exp(log_g[i] - top)
            total = _sum(log_g)
            for i in range(n):
                log_g[i] /= total

    affine = len(weight) > 1
    for c in range(channels):
        s, u, d, within, origin = made[0, c], made[1, c], near[c], v[c], means[0, c]
        for i in range(n):
            s[i] = u[i] = 0
        for k in range(modes):
            g_k, w_k, j = g[k], w[k], k if affine else 0
            at = _dot(w_k, d)
            for i in range(n):
                away[i] = d[i] - at
                value[i] = within[i] + away[i] * away[i]
            spread = _dot(w_k, value)
            r = 1 / np.sqrt(spread + eps)
            factor, shift, mean = weight[j, c] * r, np.float64(bias[j, c]), at + origin
            mu[k, c], means[k, c], var[k, c], rstd[k, c], scale[k, c] = at, mean, spread, r, factor
            running_mean[k, c] = (1 - momentum) * running_mean[k, c] + momentum * mean
            running[k, c] = (1 - momentum) * running[k, c] + momentum * (spread + mean * mean)
            for i in range(n):
                s[i] += g_k[i] * factor
                u[i] += g_k[i] * (factor * away[i] + shift)


@jit(in_order=True)
def mode_norm_backward(
    ds,
    du,
    m0,
    delta,
    v,
    of_gates,
    of_modes,
    made,
    gate_weight,
    weight,
    bias,
    out,
    of_psi,
    of_psi_bias,
    of_weight,
    of_bias,
):
    modes, channels, n = len(gate_weight), len(v), v.shape[1]
    g, w = of_gates[0], of_gates[1]
    mu, rstd, scale = of_modes[0], of_modes[3], of_modes[4]
    t, dlog_g, dw = np.empty(n), np.zeros((modes, n)), np.zeros((modes, n))
    affine = len(weight) > 1

    for c in range(channels):
        dm, dv, ds_c, du_c, s, near, within = out[0, c], out[1, c], ds[c], du[c], made[0, c], made[2, c], v[c]
        for i in range(n):
            t[i] = ds_c[i] + du_c[i] * near[i]  # all of dL/ds: s is in u too
            dm[i] = s[i] * du_c[i]
            dv[i] = 0
        for k in range(modes):
            g_k, w_k, dg, dw_k, j = g[k], w[k], dlog_g[k], dw[k], k if affine else 0
            factor, at, r = scale[k, c], mu[k, c], rstd[k, c]
            offset = factor * at - bias[j, c]
            g_du = _dot(g_k, du_c)
            dscale = _dot(g_k, t) - at * g_du
            of_weight[j, c] += dscale * r
            of_bias[j, c] += g_du
            dmu, dvar = -factor * g_du, -(r * r) / 2 * factor * dscale
            for i in range(n):
                dg[i] += t[i] * factor - du_c[i] * offset
                away = near[i] - at
                dv[i] += w_k[i] * dvar
                dm[i] += w_k[i] * (dmu + 2 * dvar * away)
                dw_k[i] += near[i] * dmu + dvar * (within[i] + away * away)

    for i in range(n):
        t[i] = 0
    for k in range(modes):  # w is a softmax over the batch of log g, log g a log-softmax over the modes of z
        g_k, w_k, dz, dw_k = g[k], w[k], dlog_g[k], dw[k]
        mean = _dot(w_k, dw_k)
        for i in range(n):
            dz[i] = g_k[i] * dz[i] + w_k[i] * (dw_k[i] - mean)
            t[i] += dz[i]
    for k in range(modes):
        g_k, dz = g[k], dlog_g[k]
        for i in range(n):
            dz[i] -= g_k[i] * t[i]
        of_psi_bias[k] += _sum(dz)
    for c in range(channels):
        dm, first, rest = out[0, c], m0[c], delta[c]
        for i in range(n):
            t[i] = first[i] + rest[i]
        for k in range(modes):
            dz, psi = dlog_g[k], np.float64(gate_weight[k, c])
            of_psi[k, c] += _dot(dz, t)
            for i in range(n):
                dm[i] += dz[i] * psi


@jit(in_order=True)
def mode_group_norm(m0, delta, v, gate_weight, gate_bias, weight, bias, of_gates, of_modes, made, scale, eps, spatial):
    (channels, n), modes = v.shape, len(gate_bias)
    g, w, mu, rstd = of_gates[0], of_gates[1], of_modes[0], of_modes[1]
    total = np.zeros((modes, n))
    for c in range(channels):
        near, first, rest, origin = made[3, c], m0[c], delta[c], m0[0]
        for i in range(n):
            near[i] = (first[i] - origin[i]) + rest[i]  # means are counted from each sample's first
        for k in range(modes):
            z, psi, shift = w[c, k], np.float64(gate_weight[k]), np.float64(gate_bias[k])
            for i in range(n):
                z[i] = (first[i] + rest[i]) * psi + shift
        _softmax(w[c], g[c])
        for k in range(modes):
            g_k, total_k = g[c, k], total[k]
            for i in range(n):
                total_k[i] += g_k[i]
    for i in range(n):
        scale[i] = 0
    for k in range(modes):
        total_k, mu_k, r = total[k], mu[k], rstd[k]
        for i in range(n):
            if not total_k[i] > _LEAST:  # w = exp(log g − its largest) over their sum, in place of g over its sum
                top = w[0, k, i]
                for c in range(1, channels):
                    top = max(top, w[c, k, i])
                total_k[i] = 0
                for c in range(channels):
                    w[c, k, i] = np.exp(w[c, k, i] - top)
                    total_k[i] += w[c, k, i]
            else:
                for c in range(channels):
                    w[c, k, i] = g[c, k, i]
            mu_k[i] = r[i] = 0
        for c in range(channels):
            w_k, near = w[c, k], made[3, c]
            for i in range(n):
                w_k[i] /= total_k[i]
                mu_k[i] += w_k[i] * near[i]
        for c in range(channels):
            w_k, near, within = w[c, k], made[3, c], v[c]
            keep = 1.0 if spatial else 0.0
            for i in range(n):
                d = near[i] - mu_k[i]
                r[i] += w_k[i] * (keep * within[i] + d * d)
        for i in range(n):
            r[i] = 1 / np.sqrt(r[i] + eps)
            scale[i] += r[i] / modes
    for c in range(channels):
        s, u, shift, near = made[0, c], made[1, c], made[2, c], made[3, c]
        factor, offset = np.float64(weight[c]), np.float64(bias[c])
        for i in range(n):
            shift[i] = 0
        for k in range(modes):
            mu_k, r = mu[k], rstd[k]
            for i in range(n):
                shift[i] += r[i] * (near[i] - mu_k[i]) / modes
        for i in range(n):
            s[i] = factor * scale[i]
            u[i] = factor * shift[i] + offset


@jit(in_order=True)
def mode_group_norm_backward(
    ds,
    du,
    m0,
    delta,
    v,
    of_gates,
    of_modes,
    made,
    scale,
    spatial,
    gate_weight,
    weight,
    out,
    of_psi,
    of_psi_bias,
    of_weight,
    of_bias,
):
    (channels, n), modes = v.shape, len(of_psi_bias)
    g, w, mu, rstd = of_gates[0], of_gates[1], of_modes[0], of_modes[1]
    dmu, dvar, mean = np.zeros((modes, n)), np.zeros((modes, n)), np.zeros((modes, n))
    dz, total, value = np.empty((modes, n)), np.empty(n), np.empty(n)
    keep = 1.0 if spatial else 0.0
    for c in range(channels):
        ds_c, du_c, shift, near = ds[c], du[c], made[2, c], made[3, c]
        of_weight[c] += _dot(ds_c, scale) + _dot(du_c, shift)
        of_bias[c] += _sum(du_c)
        factor = weight[c] / np.float64(modes)
        for k in range(modes):
            mu_k, r, dmu_k, dvar_k = mu[k], rstd[k], dmu[k], dvar[k]
            for i in range(n):
                dmu_k[i] -= factor * du_c[i] * r[i]
                dvar_k[i] += factor * (ds_c[i] + du_c[i] * (near[i] - mu_k[i]))
    for k in range(modes):
        r, dvar_k = rstd[k], dvar[k]
        for i in range(n):
            dvar_k[i] *= -(r[i] * r[i] * r[i]) / 2
    for c in range(channels):  # w is a softmax over the channels of log g
        near, within = made[3, c], v[c]
        for k in range(modes):
            w_k, mu_k, dvar_k, mean_k = w[c, k], mu[k], dvar[k], mean[k]
            for i in range(n):  # the mean over a mode of dw below, in which that of d is 0
                d = near[i] - mu_k[i]
                mean_k[i] += w_k[i] * dvar_k[i] * (keep * within[i] + d * d)
    for c in range(channels):
        dm, dv, du_c, near, within, first, rest = out[0, c], out[1, c], du[c], made[3, c], v[c], m0[c], delta[c]
        factor = weight[c] / np.float64(modes)
        for i in range(n):
            dm[i] = dv[i] = total[i] = 0
            value[i] = first[i] + rest[i]
        for k in range(modes):
            w_k, mu_k, r, dmu_k, dvar_k, mean_k, dz_k = w[c, k], mu[k], rstd[k], dmu[k], dvar[k], mean[k], dz[k]
            for i in range(n):
                d = near[i] - mu_k[i]
                dv[i] += keep * w_k[i] * dvar_k[i]
                dm[i] += factor * du_c[i] * r[i] + w_k[i] * (dmu_k[i] + 2 * dvar_k[i] * d)
                dw = dmu_k[i] * d + dvar_k[i] * (keep * within[i] + d * d)
                dz_k[i] = w_k[i] * (dw - mean_k[i])
                total[i] += dz_k[i]
        for k in range(modes):
            g_k, dz_k, psi = g[c, k], dz[k], np.float64(gate_weight[k])
            for i in range(n):
                dz_k[i] -= g_k[i] * total[i]  # log g is a log-softmax over the modes of z
                dm[i] += dz_k[i] * psi
            of_psi[k] += _dot(dz_k, value)
            of_psi_bias[k] += _sum(dz_k)
