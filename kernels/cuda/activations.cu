#include "common.cuh"
#include "activations.cuh"

KERNEL activate(const real* x, real* y, int n, int kind) {
    GRID_STRIDE(i, n) y[i] = activation(x[i], kind);
}

KERNEL activate_backward(const real* dy, const real* y, real* dx, int n, int kind) {
    GRID_STRIDE(i, n) dx[i] = activation_backward(dy[i], y[i], kind);
}
