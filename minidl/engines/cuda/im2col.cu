// cols[c, i, j, h, w, n] = x[c, sh*h + i - ph, sw*w + j - pw, n], 0 outside of x: every window is a column.
// A twin of im2col in minidl/layers/conv.py.
//
// Thread (c, h, w, n) writes the kh * kw values of one window.  x (C, H, W, N), cols (C, kh, kw, Ho, Wo, N).
extern "C" __global__ void im2col(const REAL *__restrict__ x, REAL *__restrict__ cols, INDEX H, INDEX W, INDEX N,
                                  INDEX Ho, INDEX Wo, INDEX kh, INDEX kw, INDEX sh, INDEX sw, INDEX ph, INDEX pw,
                                  INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, w = t / N % Wo, h = t / N / Wo % Ho, c = t / N / Wo / Ho;
        for (INDEX i = 0; i < kh; ++i) {
            for (INDEX j = 0; j < kw; ++j) {
                const INDEX a = sh * h + i - ph, b = sw * w + j - pw;
                const bool inside = a >= 0 && a < H && b >= 0 && b < W;
                cols[(((c * kh + i) * kw + j) * Ho + h) * Wo * N + w * N + n] =
                    inside ? x[((c * H + a) * W + b) * N + n] : 0;
            }
        }
    }
}
