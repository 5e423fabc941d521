// y = max(x, 0), NaN stays NaN; dx = dy where y > 0, else dy * 0.
// A twin of relu and relu_backward in minidl/layers/activation.py.

// Thread t: one value.
extern "C" __global__ void relu(const REAL *__restrict__ x, REAL *__restrict__ y, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        y[t] = x[t] < 0 ? 0 : x[t];
    }
}

// Thread t: one value.
extern "C" __global__ void relu_backward(const REAL *__restrict__ dy, const REAL *__restrict__ y,
                                         REAL *__restrict__ dx, INDEX size) {
    for (INDEX t = blockIdx.x * blockDim.x + threadIdx.x; t < size; t += gridDim.x * blockDim.x) {
        dx[t] = dy[t] * REAL(y[t] > 0);
    }
}
