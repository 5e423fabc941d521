// y = (x - m) * s + u, with x - m = (x - m0) - delta.
// A twin of scale_shift in minidl/norm/moments.py.
//
// Thread (c, s, n) writes the pixels p = s, s + S, s + 2S, ...: it reads the small arrays (C, N) once.  x, y (C, P, N).
extern "C" __global__ void scale_shift(const REAL *__restrict__ x, const double *__restrict__ m0,
                                       const double *__restrict__ delta, const double *__restrict__ scale,
                                       const double *__restrict__ shift, REAL *__restrict__ y, INDEX P, INDEX N,
                                       INDEX S, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, s = t / N % S, c = t / N / S, small = c * N + n;
        const REAL o = REAL(m0[small]);
        const REAL a = REAL(scale[small]), b = REAL(shift[small] - delta[small] * scale[small]);
        for (INDEX p = s; p < P; p += S) {
            const INDEX i = (c * P + p) * N + n;
            y[i] = (x[i] - o) * a + b;
        }
    }
}
