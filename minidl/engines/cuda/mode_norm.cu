// The small function of mode normalization and its backward, in training: between the moments and scale-and-shift.
// A twin of gates, mode_weights, mode_moments, mode_norm and mode_norm_backward in minidl/norm/mode.py.
//
// Small arrays are (C, N), (K, N) and (K, C) in double. A kernel ends where a value needs those of other threads; each
// thread makes its own sums over the batch, the channels or the modes. Means m = m0 + delta are counted from origin (C).

// Thread n: z_k = sum_c gate_weight m + gate_bias,  log_g = log_softmax_k z,  g = exp(log_g)  (K, N).
extern "C" __global__ void gates(const double *__restrict__ m0, const double *__restrict__ delta,
                                 const REAL *__restrict__ gate_weight, const REAL *__restrict__ gate_bias,
                                 double *__restrict__ g, double *__restrict__ log_g, INDEX K, INDEX C, INDEX N,
                                 INDEX size) {
    for (INDEX n = blockIdx.x * blockDim.x + threadIdx.x; n < size; n += gridDim.x * blockDim.x) {
        double largest = 0, total = 0;
        for (INDEX k = 0; k < K; ++k) {
            double z = gate_bias[k];
            for (INDEX c = 0; c < C; ++c) z += double(gate_weight[k * C + c]) * (m0[c * N + n] + delta[c * N + n]);
            log_g[k * N + n] = z;
            if (k == 0 || z > largest) largest = z;
        }
        for (INDEX k = 0; k < K; ++k) total += exp(log_g[k * N + n] - largest);
        for (INDEX k = 0; k < K; ++k) {
            log_g[k * N + n] -= largest;
            log_g[k * N + n] -= log(total);
            g[k * N + n] = exp(log_g[k * N + n]);
        }
    }
}

// Thread (k, n): w = g / sum_n g, as a softmax over the batch.
extern "C" __global__ void mode_weights(const double *__restrict__ log_g, double *__restrict__ w, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX row = t / N * N;
        double largest = log_g[row], total = 0;
        for (INDEX j = row; j < row + N; ++j) {
            if (log_g[j] > largest) largest = log_g[j];
        }
        for (INDEX j = row; j < row + N; ++j) total += exp(log_g[j] - largest);
        w[t] = exp(log_g[t] - largest) / total;
    }
}

// Thread (k, c): mu_k = sum_n w m (eq. 3),  var_k = sum_n w [v + (m - mu_k)^2],  scale = weight * rstd,
// offset = scale * mu - bias; mean is mu from 0, and the running moments follow it (eq. 4).
// weight and bias are (R, C), with R = K rows or one.
extern "C" __global__ void mode_moments(const double *__restrict__ m0, const double *__restrict__ delta,
                                        const double *__restrict__ v, const double *__restrict__ w,
                                        const REAL *__restrict__ weight, const REAL *__restrict__ bias,
                                        double *__restrict__ running_mean, double *__restrict__ running_square,
                                        double *__restrict__ origin, double *__restrict__ mu,
                                        double *__restrict__ mean, double *__restrict__ var, double *__restrict__ rstd,
                                        double *__restrict__ scale, double *__restrict__ offset, double eps,
                                        double momentum, INDEX R, INDEX C, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX c = t % C, k = t / C, row = c * N, affine = R == 1 ? c : t;
        double o = 0, first = 0, second = 0;
        for (INDEX j = 0; j < N; ++j) o += m0[row + j] + delta[row + j];
        o /= double(N);
        for (INDEX j = 0; j < N; ++j) first += w[k * N + j] * (m0[row + j] - o + delta[row + j]);
        for (INDEX j = 0; j < N; ++j) {
            const double e = m0[row + j] - o + delta[row + j] - first;
            second += w[k * N + j] * (v[row + j] + e * e);
        }
        const double r = 1 / sqrt(second + eps), from_zero = first + o;
        mu[t] = first;
        mean[t] = from_zero;
        var[t] = second;
        rstd[t] = r;
        scale[t] = double(weight[affine]) * r;
        offset[t] = scale[t] * first - double(bias[affine]);
        if (k == 0) origin[c] = o;
        running_mean[t] = (1 - momentum) * running_mean[t] + momentum * from_zero;
        running_square[t] = (1 - momentum) * running_square[t] + momentum * (second + from_zero * from_zero);
    }
}

// Thread (c, n): s = sum_k g scale,  u = m s - sum_k g offset.
extern "C" __global__ void mode_norm(const double *__restrict__ m0, const double *__restrict__ delta,
                                     const double *__restrict__ origin, const double *__restrict__ g,
                                     const double *__restrict__ scale, const double *__restrict__ offset,
                                     double *__restrict__ s, double *__restrict__ u, INDEX K, INDEX C, INDEX N,
                                     INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N;
        double slope = 0, rest = 0;
        for (INDEX k = 0; k < K; ++k) {
            slope += g[k * N + n] * scale[k * C + c];
            rest += g[k * N + n] * offset[k * C + c];
        }
        s[t] = slope;
        u[t] = (m0[t] - origin[c] + delta[t]) * slope - rest;
    }
}

// Thread (k, c): dbias = sum_n g du,  dscale = sum_n g (ds + du m) - mu dbias,  dweight = rstd dscale,
// dmu = -scale dbias,  dvar = -rstd^3/2 weight dscale.
extern "C" __global__ void mode_moments_backward(
    const double *__restrict__ ds, const double *__restrict__ du, const double *__restrict__ m0,
    const double *__restrict__ delta, const double *__restrict__ origin, const double *__restrict__ g,
    const double *__restrict__ mu, const double *__restrict__ rstd, const double *__restrict__ scale,
    double *__restrict__ dmu, double *__restrict__ dvar, double *__restrict__ dweight, double *__restrict__ dbias,
    INDEX C, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX c = t % C, k = t / C, row = c * N;
        double of_s = 0, of_u = 0;
        for (INDEX j = 0; j < N; ++j) {
            const double m = m0[row + j] - origin[c] + delta[row + j];
            of_s += g[k * N + j] * (ds[row + j] + du[row + j] * m);
            of_u += g[k * N + j] * du[row + j];
        }
        const double dscale = of_s - mu[t] * of_u;
        dweight[t] = rstd[t] * dscale;
        dbias[t] = of_u;
        dmu[t] = -scale[t] * of_u;
        dvar[t] = -rstd[t] * rstd[t] / 2 * scale[t] * dscale;  // scale = weight * rstd
    }
}

// Thread (k, n): g dg with dg = sum_c [(ds + du m) scale - du offset], and
// dw = sum_c [m dmu + (v + (m - mu)^2) dvar], up to a constant of each mode.
extern "C" __global__ void mode_weights_backward(
    const double *__restrict__ ds, const double *__restrict__ du, const double *__restrict__ m0,
    const double *__restrict__ delta, const double *__restrict__ v, const double *__restrict__ origin,
    const double *__restrict__ g, const double *__restrict__ mu, const double *__restrict__ scale,
    const double *__restrict__ offset, const double *__restrict__ dmu, const double *__restrict__ dvar,
    double *__restrict__ g_dg, double *__restrict__ dw, INDEX C, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, k = t / N;
        double of_g = 0, of_w = 0;
        for (INDEX c = 0; c < C; ++c) {
            const INDEX j = c * N + n, kc = k * C + c;
            const double m = m0[j] - origin[c] + delta[j], e = m - mu[kc];
            of_g += (ds[j] + du[j] * m) * scale[kc] - du[j] * offset[kc];
            of_w += m * dmu[kc] + (v[j] + e * e) * dvar[kc];
        }
        g_dg[t] = g[t] * of_g;
        dw[t] = of_w;
    }
}

// Thread (k, n): dlog_g = g dg + w (dw - sum_n w dw): w is a softmax over the batch of log g.
extern "C" __global__ void log_gates_backward(const double *__restrict__ g_dg, const double *__restrict__ w,
                                              const double *__restrict__ dw, double *__restrict__ dlog_g, INDEX N,
                                              INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX row = t / N * N;
        double mean = 0;
        for (INDEX j = row; j < row + N; ++j) mean += w[j] * dw[j];
        dlog_g[t] = g_dg[t] + w[t] * (dw[t] - mean);
    }
}

// Thread (c, n): dz = dlog_g - g sum_k dlog_g,  dv = sum_k w dvar,
// dm = s du + sum_k w (dmu - 2 dvar mu) + 2 dv m + sum_k gate_weight dz.
extern "C" __global__ void mode_norm_backward(
    const double *__restrict__ du, const double *__restrict__ m0, const double *__restrict__ delta,
    const double *__restrict__ origin, const double *__restrict__ s, const double *__restrict__ g,
    const double *__restrict__ w, const double *__restrict__ mu, const double *__restrict__ dmu,
    const double *__restrict__ dvar, const double *__restrict__ dlog_g, const REAL *__restrict__ gate_weight,
    double *__restrict__ dm, double *__restrict__ dv, double *__restrict__ dz, INDEX K, INDEX C, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N;
        double total = 0, of_v = 0, of_m = s[t] * du[t];
        for (INDEX k = 0; k < K; ++k) total += dlog_g[k * N + n];
        for (INDEX k = 0; k < K; ++k) {
            const INDEX kn = k * N + n, kc = k * C + c;
            const double of_z = dlog_g[kn] - g[kn] * total;
            of_v += w[kn] * dvar[kc];
            of_m += w[kn] * (dmu[kc] - 2 * dvar[kc] * mu[kc]) + double(gate_weight[kc]) * of_z;
            if (c == 0) dz[kn] = of_z;
        }
        dm[t] = of_m + 2 * of_v * (m0[t] - origin[c] + delta[t]);
        dv[t] = of_v;
    }
}

// Thread (k, c): adds the gradients of gate_weight (sum_n dz m), gate_bias (sum_n dz), and of weight and bias, which are
// summed over the modes where R is 1.
extern "C" __global__ void mode_gradients(const double *__restrict__ dz, const double *__restrict__ m0,
                                          const double *__restrict__ delta, const double *__restrict__ of_weight,
                                          const double *__restrict__ of_bias, REAL *__restrict__ dgate_weight,
                                          REAL *__restrict__ dgate_bias, REAL *__restrict__ dweight,
                                          REAL *__restrict__ dbias, INDEX R, INDEX K, INDEX C, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX c = t % C, k = t / C;
        double product = 0, sum = 0;
        for (INDEX j = 0; j < N; ++j) {
            product += dz[k * N + j] * (m0[c * N + j] + delta[c * N + j]);
            sum += dz[k * N + j];
        }
        dgate_weight[t] = REAL(double(dgate_weight[t]) + product);
        if (c == 0) dgate_bias[k] = REAL(double(dgate_bias[k]) + sum);
        if (k >= R) continue;
        double a = 0, b = 0;
        for (INDEX kc = t; kc < (R == 1 ? K * C : t + 1); kc += C) {
            a += of_weight[kc];
            b += of_bias[kc];
        }
        dweight[t] = REAL(double(dweight[t]) + a);
        dbias[t] = REAL(double(dbias[t]) + b);
    }
}
