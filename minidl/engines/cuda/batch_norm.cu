// The small function of batch normalization and its backward, in training: between the moments and scale-and-shift.
// A twin of batch_moments, batch_norm and batch_norm_backward in minidl/norm/batch.py.
//
// Small arrays are (C, N) in double. Thread (c, n) writes the values of its sample; it sums over the batch by itself,
// like all N threads of its channel: they read the same values at the same time, and nobody waits for anybody.

// mu = mean_n m,  var = mean_n [v + (m - mu)^2],  s = weight * rstd,  u = bias + s * d,  d = m - mu.
// Means are counted from the first sample's. running_spread is of the variance, or of the mean square where square is 1.
extern "C" __global__ void batch_norm(const double *__restrict__ m0, const double *__restrict__ delta,
                                      const double *__restrict__ v, const REAL *__restrict__ weight,
                                      const REAL *__restrict__ bias, double *__restrict__ running_mean,
                                      double *__restrict__ running_spread, double *__restrict__ s,
                                      double *__restrict__ u, double *__restrict__ d, double *__restrict__ rstd,
                                      double eps, double momentum, double unbias, INDEX square, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N, row = c * N;
        const double origin = m0[row];
        double mu = 0, var = 0;
        for (INDEX j = row; j < row + N; ++j) mu += m0[j] - origin + delta[j];
        mu /= double(N);
        for (INDEX j = row; j < row + N; ++j) {
            const double e = m0[j] - origin + delta[j] - mu;
            var += v[j] + e * e;
        }
        var /= double(N);
        const double r = 1 / sqrt(var + eps);
        d[t] = m0[t] - origin + delta[t] - mu;
        s[t] = double(weight[c]) * r;
        u[t] = double(bias[c]) + s[t] * d[t];
        if (n == 0) {
            const double mean = mu + origin, spread = square ? var + mean * mean : var * unbias;
            rstd[c] = r;
            running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean;
            running_spread[c] = (1 - momentum) * running_spread[c] + momentum * spread;
        }
    }
}

// dscale = sum_n (ds + du * d),  dvar = -rstd^3/2 * weight * dscale,  dmu = -sum_n s * du;
// dm = s * du + (dmu + 2 * dvar * d) / N,  dv = dvar / N;  dweight += rstd * dscale,  dbias += sum_n du.
extern "C" __global__ void batch_norm_backward(const double *__restrict__ ds, const double *__restrict__ du,
                                               const double *__restrict__ s, const double *__restrict__ d,
                                               const double *__restrict__ rstd, double *__restrict__ dm,
                                               double *__restrict__ dv, REAL *__restrict__ dweight,
                                               REAL *__restrict__ dbias, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N, row = c * N;
        double dscale = 0, sum = 0;
        for (INDEX j = row; j < row + N; ++j) {
            dscale += ds[j] + du[j] * d[j];
            sum += du[j];
        }
        const double r = rstd[c], dvar = -r * r / 2 * s[t] * dscale;  // s = weight * rstd
        dm[t] = s[t] * (du[t] - sum / double(N)) + 2 / double(N) * dvar * d[t];
        dv[t] = dvar / double(N);
        if (n == 0) {
            dweight[c] = REAL(double(dweight[c]) + r * dscale);
            dbias[c] = REAL(double(dbias[c]) + sum);
        }
    }
}
