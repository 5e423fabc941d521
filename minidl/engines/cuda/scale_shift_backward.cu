// dx = s * (dy - du/P) + (2*dv/P) * (x - m) + dm/P, with x - m = (x - m0) - delta.
// A twin of scale_shift_backward in minidl/norm/moments.py.
//
// Thread (c, s, n) writes the pixels p = s, s + S, s + 2S, ...: dx = dy * a + (x - m0) * b + rest, whose a, b and rest
// it makes once from the small arrays (C, N).  dy, x, dx (C, P, N).
extern "C" __global__ void scale_shift_backward(const REAL *__restrict__ dy, const REAL *__restrict__ x,
                                                const double *__restrict__ m0, const double *__restrict__ delta,
                                                const double *__restrict__ scale, const double *__restrict__ du,
                                                const double *__restrict__ dm, const double *__restrict__ dv,
                                                REAL *__restrict__ dx, INDEX P, INDEX N, INDEX S, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, s = t / N % S, c = t / N / S, small = c * N + n;
        const double slope = 2 / double(P) * dv[small];
        const bool far = slope < 1e-30 && slope > -1e-30;  // REAL may not hold it, and it meets values that are as large
        const REAL o = REAL(m0[small]), a = REAL(scale[small]), b = REAL(slope);
        const REAL rest = REAL((dm[small] - scale[small] * du[small]) / double(P) - slope * delta[small]);
        for (INDEX p = s; p < P; p += S) {
            const INDEX i = (c * P + p) * N + n;
            const REAL along = far ? REAL((double(x[i]) - double(o)) * slope) : (x[i] - o) * b;
            dx[i] = dy[i] * a + along + rest;
        }
    }
}
