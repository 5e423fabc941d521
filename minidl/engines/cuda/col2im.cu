// dx[c, a, b, n] = sum of cols[c, i, j, h, w, n] over all (h, i), (w, j) with sh*h + i - ph = a and sw*w + j - pw = b:
// the adjoint of im2col, gathered, so that every value is written by one thread.
// A twin of col2im in minidl/layers/conv.py.
//
// Thread (c, a, b, n).  cols (C, kh, kw, Ho, Wo, N), dx (C, H, W, N).
extern "C" __global__ void col2im(const REAL *__restrict__ cols, REAL *__restrict__ dx, INDEX H, INDEX W, INDEX N,
                                  INDEX Ho, INDEX Wo, INDEX kh, INDEX kw, INDEX sh, INDEX sw, INDEX ph, INDEX pw,
                                  INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, b = t / N % W, a = t / N / W % H, c = t / N / W / H;
        REAL sum = 0;
        for (INDEX i = 0; i < kh; ++i) {
            const INDEX h = (a + ph - i) / sh;
            if (a + ph < i || h * sh != a + ph - i || h >= Ho) continue;
            for (INDEX j = 0; j < kw; ++j) {
                const INDEX w = (b + pw - j) / sw;
                if (b + pw < j || w * sw != b + pw - j || w >= Wo) continue;
                sum += cols[(((c * kh + i) * kw + j) * Ho + h) * Wo * N + w * N + n];
            }
        }
        dx[t] = sum;
    }
}
