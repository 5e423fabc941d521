// Mean and biased variance of each channel of each sample:  m[c,n] = mean_p x[c,p,n],  v[c,n] = mean_p (x[c,p,n] - m)^2.
// A twin of moments in minidl/norm/moments.py.
//
// Counted from o = x[c,0,n]: with d = mean_p (x - o),  m = o + d  and  v = mean_p (x - o)^2 - d^2. A large mean costs no
// digits, and the difference few: o is one of the P values, so d^2 is at most (P - 1)*v, and the sums are in double.

// Thread (c, s, n): the sums of x - o and of (x - o)^2 over the pixels p = s, s + S, s + 2S, ...  x (C, P, N).
extern "C" __global__ void moments_partial(const REAL *__restrict__ x, double *__restrict__ sums,  // (C, S, N)
                                           double *__restrict__ squares, INDEX P, INDEX N, INDEX S, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, s = t / N % S, c = t / N / S;
        const REAL *channel = x + c * P * N + n;
        const double o = channel[0];
        double sum = 0, square = 0;
        for (INDEX p = s; p < P; p += S) {
            const double d = double(channel[p * N]) - o;
            sum += d;
            square += d * d;
        }
        sums[t] = sum;
        squares[t] = square;
    }
}

// Thread (c, n): adds up the S partial sums.  m comes in two parts: m0, rounded to REAL, and the rest delta = m - m0.
extern "C" __global__ void moments(const REAL *__restrict__ x, const double *__restrict__ sums,
                                   const double *__restrict__ squares, double *__restrict__ m0,  // (C, N)
                                   double *__restrict__ delta, double *__restrict__ v, INDEX P, INDEX N, INDEX S,
                                   INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, c = t / N;
        const double o = x[c * P * N + n];
        double sum = 0, square = 0;
        for (INDEX s = 0; s < S; ++s) {
            sum += sums[(c * S + s) * N + n];
            square += squares[(c * S + s) * N + n];
        }
        const double d = sum / double(P);
        const REAL rounded = REAL(o + d);
        m0[t] = rounded;
        delta[t] = o - double(rounded) + d;
        v[t] = square / double(P) - d * d;
    }
}
