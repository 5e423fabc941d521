// losses[n] = -sum_k q[k, n] log p[k, n] with p = softmax over k of the logits, q = own * onehot(labels) + rest, whose sum
// over k is 1; dlogits = (p - q) / N.
// A twin of softmax_cross_entropy and softmax_cross_entropy_backward in minidl/losses.py; the mean over n is taken there.

// Thread n: one sample.  logits, p (K, N). A label outside of [0, K) gives the loss NaN: nobody can look at it here.
extern "C" __global__ void softmax_cross_entropy(const REAL *__restrict__ logits, const long long *__restrict__ labels,
                                                 REAL *__restrict__ p, REAL *__restrict__ losses, REAL own, REAL rest,
                                                 INDEX K, INDEX size) {
    for (INDEX n = blockIdx.x * blockDim.x + threadIdx.x; n < size; n += gridDim.x * blockDim.x) {
        REAL largest = logits[n];
        for (INDEX k = 1; k < K; ++k) {
            if (logits[k * size + n] > largest) largest = logits[k * size + n];
        }
        double total = 0, sum = 0;
        for (INDEX k = 0; k < K; ++k) {
            const REAL e = exp(logits[k * size + n] - largest);
            p[k * size + n] = e;
            total += double(e);
            sum += double(logits[k * size + n] - largest);
        }
        for (INDEX k = 0; k < K; ++k) p[k * size + n] /= REAL(total);
        const bool known = labels[n] >= 0 && labels[n] < K;
        REAL target = known ? logits[(INDEX)labels[n] * size + n] - largest : log(REAL(-1));
        if (rest != 0) target = own * target + rest * REAL(sum);
        losses[n] = log(REAL(total)) - target;
    }
}

// Thread (k, n): one value; own and rest are divided by N here.
extern "C" __global__ void softmax_cross_entropy_backward(const REAL *__restrict__ p,
                                                          const long long *__restrict__ labels,
                                                          REAL *__restrict__ dlogits, REAL own, REAL rest, INDEX N,
                                                          INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const INDEX n = t % N, k = t / N;
        dlogits[t] = p[t] / REAL(N) - (labels[n] == k ? own : 0) - rest;
    }
}
