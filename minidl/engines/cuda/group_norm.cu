// The small function of group, layer and instance normalization and its backward.
// A twin of group_norm and group_norm_backward in minidl/norm/group.py.
//
// Small arrays are (C, N) in double; G channels in a row are a group. Thread (c, n) writes its values, and sums over the
// channels of its group by itself.

// mu = mean_{c in g} m,  var = mean_{c in g} [v + (m - mu)^2],  s = weight * rstd,  u = bias + s * d,  d = m - mu.
// Means are counted from the group's first channel.
extern "C" __global__ void group_norm(const double *__restrict__ m0, const double *__restrict__ delta,
                                      const double *__restrict__ v, const REAL *__restrict__ weight,
                                      const REAL *__restrict__ bias, double *__restrict__ s, double *__restrict__ u,
                                      double *__restrict__ d, double *__restrict__ rstd, double eps, INDEX G, INDEX N,
                                      INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N, first = c / G * G * N + n, end = first + G * N;
        const double origin = m0[first];
        double mu = 0, var = 0;
        for (INDEX j = first; j < end; j += N) mu += m0[j] - origin + delta[j];
        mu /= double(G);
        for (INDEX j = first; j < end; j += N) {
            const double e = m0[j] - origin + delta[j] - mu;
            var += v[j] + e * e;
        }
        rstd[t] = 1 / sqrt(var / double(G) + eps);
        d[t] = m0[t] - origin + delta[t] - mu;
        s[t] = double(weight[c]) * rstd[t];
        u[t] = double(bias[c]) + s[t] * d[t];
    }
}

// dscale = ds + du * d,  dvar = -rstd^3/2 * sum_{c in g} weight * dscale,  dmu = -sum_{c in g} s * du;
// dm = s * du + (dmu + 2 * dvar * d) / G,  dv = dvar / G;  dweight += sum_n rstd * dscale,  dbias += sum_n du.
extern "C" __global__ void group_norm_backward(const double *__restrict__ ds, const double *__restrict__ du,
                                               const double *__restrict__ s, const double *__restrict__ d,
                                               const double *__restrict__ rstd, double *__restrict__ dm,
                                               double *__restrict__ dv, REAL *__restrict__ dweight,
                                               REAL *__restrict__ dbias, INDEX G, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N, first = c / G * G * N + n, end = first + G * N;
        double product = 0, sum = 0;
        for (INDEX j = first; j < end; j += N) {
            product += s[j] * (ds[j] + du[j] * d[j]);
            sum += s[j] * du[j];
        }
        const double dvar = -rstd[t] * rstd[t] / 2 * product;  // s = weight * rstd
        dm[t] = s[t] * du[t] + (2 * dvar * d[t] - sum) / double(G);
        dv[t] = dvar / double(G);
        if (n == 0) {
            double of_weight = 0, of_bias = 0;
            for (INDEX j = t; j < t + N; ++j) {
                of_weight += rstd[j] * (ds[j] + du[j] * d[j]);
                of_bias += du[j];
            }
            dweight[c] = REAL(double(dweight[c]) + of_weight);
            dbias[c] = REAL(double(dbias[c]) + of_bias);
        }
    }
}
