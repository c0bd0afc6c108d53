#include "common.cuh"

KERNEL gumbel(const real* u, real* g, int n) {
    GRID_STRIDE(i, n) g[i] = -log(-log(u[i]));
}
