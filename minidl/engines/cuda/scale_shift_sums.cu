// ds[c,n] = sum_p dy * (x - m),  du[c,n] = sum_p dy,  with x - m = (x - m0) - delta.
// A twin of scale_shift_sums in minidl/norm/moments.py.

// Thread (c, s, n): the sums of dy * (x - m0) and of dy over the pixels p = s, s + S, s + 2S, ...  dy, x (C, P, N).
extern "C" __global__ void scale_shift_sums_partial(const REAL *__restrict__ dy, const REAL *__restrict__ x,
                                                    const double *__restrict__ m0,  // (C, N)
                                                    double *__restrict__ products,  // (C, S, N)
                                                    double *__restrict__ sums, INDEX P, INDEX N, INDEX S, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, s = t / N % S, c = t / N / S;
        const REAL o = REAL(m0[c * N + n]);
        double product = 0, sum = 0;
        for (INDEX p = s; p < P; p += S) {
            const INDEX i = (c * P + p) * N + n;
            product += double(dy[i]) * double(x[i] - o);
            sum += double(dy[i]);
        }
        products[t] = product;
        sums[t] = sum;
    }
}

// Thread (c, n): adds up the S partial sums.
extern "C" __global__ void scale_shift_sums(const double *__restrict__ products, const double *__restrict__ sums,
                                            const double *__restrict__ delta, double *__restrict__ ds,  // (C, N)
                                            double *__restrict__ du, INDEX N, INDEX S, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N;
        double product = 0, sum = 0;
        for (INDEX s = 0; s < S; ++s) {
            product += products[(c * S + s) * N + n];
            sum += sums[(c * S + s) * N + n];
        }
        ds[t] = product - delta[t] * sum;
        du[t] = sum;
    }
}
