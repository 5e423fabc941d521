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


@jit(inner=True, in_order=True)
def _raise(top, z):
    for i in range(len(z)):
        top[i] = z[i] if z[i] > top[i] or z[i] != z[i] else top[i]


@jit(inner=True, in_order=True)
def _softmax(z, g, top, total):
    """Write the softmax over the first axis of z (K, N) into g, and into z its logarithm; top and total are (N,).

    A mode's row at a time: from row to row of one sample, all would lie in one set of the cache where N is 512.
    """
    modes, n = z.shape
    for i in range(n):
        top[i] = z[0, i]
        total[i] = 0
    for k in range(1, modes):
        _raise(top, z[k])
    for k in range(modes):
        z_k, g_k = z[k], g[k]
        for i in range(n):
            z_k[i] -= top[i]
            g_k[i] = np.exp(z_k[i])
            total[i] += g_k[i]
    for i in range(n):
        top[i] = np.log(total[i])
        total[i] = 1 / total[i]
    for k in range(modes):
        z_k, g_k = z[k], g[k]
        for i in range(n):
            z_k[i] -= top[i]
            g_k[i] *= total[i]


@jit(inner=True)
def _spread(w, v, d, mean):
    """Return the sum of w·(v + (d − mean)²)."""
    total = 0.0
    for i in range(len(w)):
        total += w[i] * (v[i] + (d[i] - mean) * (d[i] - mean))
    return total


@jit(inner=True, in_order=True)
def _add_mode(s, u, g, scale, shift):
    for i in range(len(s)):
        s[i] += scale * g[i]
        u[i] += shift * g[i]


@jit(in_order=True)
def mode_norm(
    m0, delta, v, gate_weight, gate_bias, weight, bias, running_mean, running, of_gates, of_modes, made, eps, momentum
):
    modes, channels, n = len(gate_weight), len(v), v.shape[1]
    g, w = of_gates[0], of_gates[1]
    mu, means, var, rstd, scale, shift = of_modes[0], of_modes[1], of_modes[2], of_modes[3], of_modes[4], of_modes[5]
    near, top, total = made[2], np.empty(n), np.empty(n)

    for c in range(channels):
        first, rest, d = m0[c], delta[c], near[c]
        for i in range(n):
            d[i] = first[i] + rest[i]  # for now
    for k in range(modes):  # z = Psi(m), for now in w
        z = w[k]
        for i in range(n):
            z[i] = gate_bias[k]
        for c in range(channels):
            d, psi = near[c], np.float64(gate_weight[k, c])
            for i in range(n):
                z[i] += psi * d[i]
    _softmax(w, g, top, total)

    for k in range(modes):  # w = g / N_k
        log_g, g_k = w[k], g[k]
        count = _sum(g_k)
        if count > _LEAST:
            part = 1 / count
            for i in range(n):
                log_g[i] = g_k[i] * part
        else:
            most = log_g[0]
            for i in range(n):
                if log_g[i] > most or log_g[i] != log_g[i]:
                    most = log_g[i]
            for i in range(n):
                log_g[i] = np.exp(log_g[i] - most)
            count = _sum(log_g)
            for i in range(n):
                log_g[i] /= count

    affine = len(weight) > 1
    for c in range(channels):
        s, u, d, within, first, rest = made[0, c], made[1, c], near[c], v[c], m0[c], delta[c]
        origin = _sum(d) / n  # means are counted from here
        for i in range(n):
            d[i] = (first[i] - origin) + rest[i]
            s[i] = u[i] = 0
        for k in range(modes):
            at = _dot(w[k], d)
            mu[k, c], var[k, c] = at, _spread(w[k], within, d, at)
        for k in range(modes):
            j = k if affine else 0
            at, spread = mu[k, c], var[k, c]
            r, mean = 1 / np.sqrt(spread + eps), at + origin
            factor = weight[j, c] * r
            means[k, c], rstd[k, c], scale[k, c], shift[k, c] = mean, r, factor, bias[j, c] - factor * at
            running_mean[k, c] = (1 - momentum) * running_mean[k, c] + momentum * mean
            running[k, c] = (1 - momentum) * running[k, c] + momentum * (spread + mean * mean)
        for k in range(modes):
            _add_mode(s, u, g[k], scale[k, c], shift[k, c])
        for i in range(n):
            u[i] += d[i] * s[i]


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
    out,
    of_psi,
    of_psi_bias,
    of_weight,
    of_bias,
):
    modes, channels, n = len(gate_weight), len(v), v.shape[1]
    g, w = of_gates[0], of_gates[1]
    mu, rstd, scale, shift = of_modes[0], of_modes[3], of_modes[4], of_modes[5]
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
            factor, offset, at, r = scale[k, c], shift[k, c], mu[k, c], rstd[k, c]
            g_du = _dot(g_k, du_c)
            dscale = _dot(g_k, t) - at * g_du
            of_weight[j, c] += dscale * r
            of_bias[j, c] += g_du
            dmu, dvar = -factor * g_du, -(r * r) / 2 * factor * dscale
            for i in range(n):
                dg[i] += t[i] * factor + du_c[i] * offset
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
    total, highest, sums = np.zeros((modes, n)), np.empty(n), np.empty(n)
    for c in range(channels):
        near, first, rest, origin = made[3, c], m0[c], delta[c], m0[0]
        for i in range(n):
            near[i] = (first[i] - origin[i]) + rest[i]  # means are counted from each sample's first
        for k in range(modes):
            z, psi, shift = w[c, k], np.float64(gate_weight[k]), np.float64(gate_bias[k])
            for i in range(n):
                z[i] = (first[i] + rest[i]) * psi + shift
        _softmax(w[c], g[c], highest, sums)
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
