// One step of stochastic gradient descent:  g' = g + weight_decay * p,  v <- momentum * v + g',  p <- p - lr * v,
// or with nesterov  p <- p - lr * g' - ahead * v, where ahead = lr * momentum.
// A twin of sgd in minidl/optim.py.
//
// Thread t: one parameter, in place.
extern "C" __global__ void sgd(REAL *__restrict__ p, const REAL *__restrict__ g, REAL *__restrict__ v, REAL lr,
                               REAL momentum, REAL weight_decay, REAL ahead, INDEX nesterov, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        REAL step = g[t];
        if (weight_decay != 0) step = p[t] * weight_decay + step;
        if (momentum != 0) v[t] = v[t] * momentum + step;
        if (momentum != 0 && !nesterov) step = v[t];
        REAL moved = p[t] - step * lr;
        if (nesterov) moved -= v[t] * ahead;
        p[t] = moved;
    }
}
