"""The CUDA kernels without a GPU: compiled for real ones, and executed on the CPU."""
