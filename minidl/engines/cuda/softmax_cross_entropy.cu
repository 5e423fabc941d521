// losses[n] = -log p[labels[n], n] with p = softmax over k of the logits; dlogits = (p - onehot(labels)) / N.
// A twin of softmax_cross_entropy and softmax_cross_entropy_backward in minidl/losses.py; the mean over n is taken there.

// Thread n: one sample.  logits, p (K, N). A label outside of [0, K) gives the loss NaN: nobody can look at it here.
extern "C" __global__ void softmax_cross_entropy(const REAL *__restrict__ logits, const long long *__restrict__ labels,
                                                 REAL *__restrict__ p, REAL *__restrict__ losses, INDEX K, INDEX size) {
    for (INDEX n = blockIdx.x * blockDim.x + threadIdx.x; n < size; n += gridDim.x * blockDim.x) {
        REAL largest = logits[n];
        for (INDEX k = 1; k < K; ++k) {
            if (logits[k * size + n] > largest) largest = logits[k * size + n];
        }
        double total = 0;
        for (INDEX k = 0; k < K; ++k) {
            const REAL e = exp(logits[k * size + n] - largest);
            p[k * size + n] = e;
            total += double(e);
        }
        for (INDEX k = 0; k < K; ++k) p[k * size + n] /= REAL(total);
        const bool known = labels[n] >= 0 && labels[n] < K;
        losses[n] = log(REAL(total)) - (known ? logits[(INDEX)labels[n] * size + n] - largest : log(REAL(-1)));
    }
}

// Thread (k, n): one value.
extern "C" __global__ void softmax_cross_entropy_backward(const REAL *__restrict__ p,
                                                          const long long *__restrict__ labels,
                                                          REAL *__restrict__ dlogits, INDEX N, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, k = t / N;
        dlogits[t] = p[t] / REAL(N) - (labels[n] == k ? REAL(1 / double(N)) : 0);
    }
}
