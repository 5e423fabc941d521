// y[c, h, w, n] = (1 / (kh*kw)) sum_ij x[c, sh*h + i - ph, sw*w + j - pw, n], 0 outside of x.
// A twin of avg_pool and avg_pool_backward in minidl/layers/pool.py, with the sums in the same order.

// Thread (c, h, w, n).  x (C, H, W, N), y (C, Ho, Wo, N).
extern "C" __global__ void avg_pool(const REAL *__restrict__ x, REAL *__restrict__ y, INDEX H, INDEX W, INDEX N,
                                    INDEX Ho, INDEX Wo, INDEX kh, INDEX kw, INDEX sh, INDEX sw, INDEX ph, INDEX pw,
                                    INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, w = t / N % Wo, h = t / N / Wo % Ho, c = t / N / Wo / Ho;
        REAL sum = 0;
        for (INDEX i = 0; i < kh; ++i) {
            REAL row = 0;
            for (INDEX j = 0; j < kw; ++j) {
                const INDEX a = sh * h + i - ph, b = sw * w + j - pw;
                if (a >= 0 && a < H && b >= 0 && b < W) row += x[((c * H + a) * W + b) * N + n];
            }
            sum += row;
        }
        y[t] = sum / REAL(kh * kw);
    }
}

// Thread (c, a, b, n): dx is the sum of dy / (kh*kw) over the windows that hold this place.  dx (C, H, W, N).
extern "C" __global__ void avg_pool_backward(const REAL *__restrict__ dy, REAL *__restrict__ dx, INDEX H, INDEX W,
                                             INDEX N, INDEX Ho, INDEX Wo, INDEX kh, INDEX kw, INDEX sh, INDEX sw,
                                             INDEX ph, INDEX pw, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, b = t / N % W, a = t / N / W % H, c = t / N / W / H;
        REAL sum = 0;
        for (INDEX j = 0; j < kw; ++j) {
            const INDEX w = (b + pw - j) / sw;
            if (b + pw < j || w * sw != b + pw - j || w >= Wo) continue;
            REAL column = 0;
            for (INDEX i = 0; i < kh; ++i) {
                const INDEX h = (a + ph - i) / sh;
                if (a + ph < i || h * sh != a + ph - i || h >= Ho) continue;
                column += dy[((c * Ho + h) * Wo + w) * N + n] / REAL(kh * kw);
            }
            sum += column;
        }
        dx[t] = sum;
    }
}
