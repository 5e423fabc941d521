// One step of Adam, or with shrink = 1 - lr * weight_decay of AdamW:  p <- shrink * p,  g' = g + decay * p,
// m <- beta1 * m + (1 - beta1) * g',  v <- beta2 * v + (1 - beta2) * g'^2,  p <- p - rate * m / (correction * sqrt(v) + eps),
// where ratio = beta1 / (1 - beta1), rest = 1 - beta, and rate and correction hold the step's number.
// A twin of adam in minidl/adam.py.
//
// Thread t: one parameter, in place.
extern "C" __global__ void adam(REAL *__restrict__ p, const REAL *__restrict__ g, REAL *__restrict__ m,
                                REAL *__restrict__ v, REAL shrink, REAL decay, REAL ratio, REAL rest1, REAL beta2,
                                REAL rest2, REAL correction, REAL eps, REAL rate, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        const REAL own = p[t] * shrink;
        REAL step = g[t];
        if (decay != 0) step = own * decay + step;
        m[t] = (m[t] * ratio + step) * rest1;
        v[t] = v[t] * beta2 + step * step * rest2;
        p[t] = own - m[t] / (sqrt(v[t]) * correction + eps) * rate;
    }
}
