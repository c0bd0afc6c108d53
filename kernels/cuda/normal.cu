#include "common.cuh"

// cospi, for cos of a large angle would need a table in local memory.
KERNEL normal(const real* u, real* e, int n) {
    GRID_STRIDE(i, n) e[i] = sqrt(-2 * log(u[2 * i])) * cospi(2 * u[2 * i + 1]);
}
