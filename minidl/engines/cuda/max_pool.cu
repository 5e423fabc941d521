// y[c, h, w, n] = max_ij x[c, sh*h + i - ph, sw*w + j - pw, n], -inf outside of x; dx = dy at the first maximum.
// A twin of max_pool and max_pool_backward in minidl/layers/pool.py. As there, NaN wins over all before it.

// Thread (c, h, w, n).  x (C, H, W, N), y (C, Ho, Wo, N), and in `first` the place i * kw + j of the maximum.
extern "C" __global__ void max_pool(const REAL *__restrict__ x, REAL *__restrict__ y, int *__restrict__ first, INDEX H,
                                    INDEX W, INDEX N, INDEX Ho, INDEX Wo, INDEX kh, INDEX kw, INDEX sh, INDEX sw,
                                    INDEX ph, INDEX pw, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, w = t / N % Wo, h = t / N / Wo % Ho, c = t / N / Wo / Ho;
        const INDEX i0 = ph > sh * h ? ph - sh * h : 0, j0 = pw > sw * w ? pw - sw * w : 0;  // the first pixel inside
        REAL best = log(REAL(0));  // -inf
        INDEX place = i0 * kw + j0;
        for (INDEX i = i0; i < kh && sh * h + i - ph < H; ++i) {
            for (INDEX j = j0; j < kw && sw * w + j - pw < W; ++j) {
                const REAL value = x[((c * H + sh * h + i - ph) * W + sw * w + j - pw) * N + n];
                if (value > best || value != value) {
                    best = value;
                    place = i * kw + j;
                }
            }
        }
        y[t] = best;
        first[t] = int(place);
    }
}

// Thread (c, a, b, n): dx is the sum of dy over the windows whose first maximum is here.  dx (C, H, W, N).
extern "C" __global__ void max_pool_backward(const REAL *__restrict__ dy, const int *__restrict__ first,
                                             REAL *__restrict__ dx, INDEX H, INDEX W, INDEX N, INDEX Ho, INDEX Wo,
                                             INDEX kh, INDEX kw, INDEX sh, INDEX sw, INDEX ph, INDEX pw, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, b = t / N % W, a = t / N / W % H, c = t / N / W / H;
        REAL sum = 0;
        for (INDEX i = 0; i < kh; ++i) {
            const INDEX h = (a + ph - i) / sh;
            if (a + ph < i || h * sh != a + ph - i || h >= Ho) continue;
            for (INDEX j = 0; j < kw; ++j) {
                const INDEX w = (b + pw - j) / sw;
                if (b + pw < j || w * sw != b + pw - j || w >= Wo) continue;
                const INDEX window = ((c * Ho + h) * Wo + w) * N + n;
                if (first[window] == i * kw + j) sum += dy[window];
            }
        }
        dx[t] = sum;
    }
}
