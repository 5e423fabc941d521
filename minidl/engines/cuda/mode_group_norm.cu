// The small function of mode group normalization and its backward: between the moments and scale-and-shift.
// A twin of channel_gates, channel_weights, mode_group_norm and mode_group_norm_backward in minidl/norm/mode_group.py.
//
// Small arrays are (C, N), (K, N) and (C, K, N) in double. Means m = m0 + delta are counted from each sample's first
// channel; v is taken as 0 where spatial is 0.

// Thread (c, n): log_g = log_softmax_k(gate_weight m + gate_bias),  g = exp(log_g)  (C, K, N).
extern "C" __global__ void channel_gates(const double *__restrict__ m0, const double *__restrict__ delta,
                                         const REAL *__restrict__ gate_weight, const REAL *__restrict__ gate_bias,
                                         double *__restrict__ g, double *__restrict__ log_g, INDEX K, INDEX N,
                                         INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX start = t / N * K * N + t % N, end = start + K * N;
        double largest = 0, total = 0;
        for (INDEX i = start, k = 0; i < end; i += N, ++k) {
            log_g[i] = double(gate_weight[k]) * (m0[t] + delta[t]) + double(gate_bias[k]);
            if (k == 0 || log_g[i] > largest) largest = log_g[i];
        }
        for (INDEX i = start; i < end; i += N) total += exp(log_g[i] - largest);
        for (INDEX i = start; i < end; i += N) {
            log_g[i] -= largest;
            log_g[i] -= log(total);
            g[i] = exp(log_g[i]);
        }
    }
}

// Thread (k, n): w = g / sum_c g as a softmax over the channels,  mu = sum_c w m,  var = sum_c w [v + (m - mu)^2].
extern "C" __global__ void channel_moments(const double *__restrict__ m0, const double *__restrict__ delta,
                                           const double *__restrict__ v, const double *__restrict__ log_g,
                                           double *__restrict__ w, double *__restrict__ mu, double *__restrict__ rstd,
                                           double eps, INDEX spatial, INDEX C, INDEX K, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N;
        double largest = log_g[t], total = 0, first = 0, second = 0;
        for (INDEX c = 1; c < C; ++c) {
            if (log_g[c * K * N + t] > largest) largest = log_g[c * K * N + t];
        }
        for (INDEX c = 0; c < C; ++c) {
            w[c * K * N + t] = exp(log_g[c * K * N + t] - largest);
            total += w[c * K * N + t];
        }
        for (INDEX c = 0; c < C; ++c) {
            w[c * K * N + t] /= total;
            first += w[c * K * N + t] * (m0[c * N + n] - m0[n] + delta[c * N + n]);
        }
        for (INDEX c = 0; c < C; ++c) {
            const double d = m0[c * N + n] - m0[n] + delta[c * N + n] - first;
            second += w[c * K * N + t] * ((spatial ? v[c * N + n] : 0) + d * d);
        }
        mu[t] = first;
        rstd[t] = 1 / sqrt(second + eps);
    }
}

// Thread (c, n): scale = mean_k rstd,  shift = mean_k rstd (m - mu),  s = weight scale,  u = weight shift + bias.
extern "C" __global__ void mode_group_norm(const double *__restrict__ m0, const double *__restrict__ delta,
                                           const double *__restrict__ mu, const double *__restrict__ rstd,
                                           const REAL *__restrict__ weight, const REAL *__restrict__ bias,
                                           double *__restrict__ scale, double *__restrict__ shift,
                                           double *__restrict__ s, double *__restrict__ u, INDEX K, INDEX N,
                                           INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N;
        double a = 0, b = 0;
        for (INDEX k = 0; k < K; ++k) {
            a += rstd[k * N + n];
            b += rstd[k * N + n] * (m0[t] - m0[n] + delta[t] - mu[k * N + n]);
        }
        scale[t] = a / double(K);
        shift[t] = b / double(K);
        s[t] = double(weight[c]) * scale[t];
        u[t] = double(weight[c]) * shift[t] + double(bias[c]);
    }
}

// Thread (k, n), with ds and du times weight / K and d = m - mu: drstd = sum_c (ds + du d),  dvar = -rstd^3/2 drstd,
// dmu = -sum_c du rstd,  dw = dmu d + dvar (v + d^2),  dlog_g = w (dw - sum_c w dw): w is a softmax over c of log g.
extern "C" __global__ void channel_moments_backward(
    const double *__restrict__ ds, const double *__restrict__ du, const double *__restrict__ m0,
    const double *__restrict__ delta, const double *__restrict__ v, const double *__restrict__ w,
    const double *__restrict__ mu, const double *__restrict__ rstd, const REAL *__restrict__ weight,
    double *__restrict__ dmu, double *__restrict__ dvar, double *__restrict__ dlog_g, INDEX spatial, INDEX C, INDEX K,
    INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N;
        double of_rstd = 0, of_mu = 0, mean = 0;
        for (INDEX c = 0; c < C; ++c) {
            const double d = m0[c * N + n] - m0[n] + delta[c * N + n] - mu[t], a = double(weight[c]) / double(K);
            of_rstd += a * (ds[c * N + n] + du[c * N + n] * d);
            of_mu -= a * du[c * N + n] * rstd[t];
        }
        const double of_var = -rstd[t] * rstd[t] * rstd[t] / 2 * of_rstd;
        for (INDEX c = 0; c < C; ++c) {
            const double d = m0[c * N + n] - m0[n] + delta[c * N + n] - mu[t];
            dlog_g[c * K * N + t] = of_mu * d + of_var * ((spatial ? v[c * N + n] : 0) + d * d);
            mean += w[c * K * N + t] * dlog_g[c * K * N + t];
        }
        for (INDEX c = 0; c < C; ++c) dlog_g[c * K * N + t] = w[c * K * N + t] * (dlog_g[c * K * N + t] - mean);
        dmu[t] = of_mu;
        dvar[t] = of_var;
    }
}

// Thread (c, n): dz = dlog_g - g sum_k dlog_g,  dv = sum_k w dvar,
// dm = sum_k [du rstd + w (dmu + 2 dvar d) + gate_weight dz], with du times weight / K.
extern "C" __global__ void mode_group_norm_backward(
    const double *__restrict__ du, const double *__restrict__ m0, const double *__restrict__ delta,
    const double *__restrict__ g, const double *__restrict__ w, const double *__restrict__ mu,
    const double *__restrict__ rstd, const double *__restrict__ dmu, const double *__restrict__ dvar,
    const double *__restrict__ dlog_g, const REAL *__restrict__ weight, const REAL *__restrict__ gate_weight,
    double *__restrict__ dm, double *__restrict__ dv, double *__restrict__ dz, INDEX spatial, INDEX K, INDEX N,
    INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N;
        const double a = double(weight[c]) / double(K) * du[t];
        double total = 0, of_m = 0, of_v = 0;
        for (INDEX k = 0; k < K; ++k) total += dlog_g[(c * K + k) * N + n];
        for (INDEX k = 0; k < K; ++k) {
            const INDEX i = (c * K + k) * N + n, kn = k * N + n;
            const double d = m0[t] - m0[n] + delta[t] - mu[kn];
            dz[i] = dlog_g[i] - g[i] * total;
            of_v += w[i] * dvar[kn];
            of_m += a * rstd[kn] + w[i] * (dmu[kn] + 2 * dvar[kn] * d) + double(gate_weight[k]) * dz[i];
        }
        dm[t] = of_m;
        dv[t] = spatial ? of_v : 0;
    }
}

// Thread (c, k): the sums over the batch of dz m and dz, (C, K); and the gradients of weight and bias, added.
extern "C" __global__ void channel_gradients(const double *__restrict__ ds, const double *__restrict__ du,
                                             const double *__restrict__ m0, const double *__restrict__ delta,
                                             const double *__restrict__ scale, const double *__restrict__ shift,
                                             const double *__restrict__ dz, double *__restrict__ products,
                                             double *__restrict__ sums, REAL *__restrict__ dweight,
                                             REAL *__restrict__ dbias, INDEX K, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX k = t % K, c = t / K, row = c * N;
        double product = 0, sum = 0;
        for (INDEX j = 0; j < N; ++j) {
            product += dz[t * N + j] * (m0[row + j] + delta[row + j]);
            sum += dz[t * N + j];
        }
        products[t] = product;
        sums[t] = sum;
        if (k > 0) continue;
        double of_weight = 0, of_bias = 0;
        for (INDEX j = row; j < row + N; ++j) {
            of_weight += ds[j] * scale[j] + du[j] * shift[j];
            of_bias += du[j];
        }
        dweight[c] = REAL(double(dweight[c]) + of_weight);
        dbias[c] = REAL(double(dbias[c]) + of_bias);
    }
}

// Thread k: adds the gradients of gate_weight and gate_bias, the sums over the channels.
extern "C" __global__ void channel_gate_gradients(const double *__restrict__ products, const double *__restrict__ sums,
                                                  REAL *__restrict__ dgate_weight, REAL *__restrict__ dgate_bias,
                                                  INDEX C, INDEX size) {
    for (INDEX k = blockIdx.x * blockDim.x + threadIdx.x; k < size; k += gridDim.x * blockDim.x) {
        double product = 0, sum = 0;
        for (INDEX c = 0; c < C; ++c) {
            product += products[c * size + k];
            sum += sums[c * size + k];
        }
        dgate_weight[k] = REAL(double(dgate_weight[k]) + product);
        dgate_bias[k] = REAL(double(dgate_bias[k]) + sum);
    }
}
