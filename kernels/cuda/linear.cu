#include "common.cuh"
#include "activations.cuh"
#define COLUMNS 32
#define STRIPS 8
#define BINS 16

// y [rows, O] += bias [O], then the activation, in place: what follows a matrix product.
KERNEL bias_activation(real* y, const real* bias, int rows, int O, int kind) {
    GRID_STRIDE(i, rows * O) y[i] = activation(y[i] + bias[i % O], kind);
}

// Its adjoint: dy [rows, O] times the derivative, in place, and sums of alpha weights[row] dy over strips of rows:
// part [gridDim.y, O]. y may be null for the identity, weights [rows] null for ones. Block: COLUMNS x STRIPS.
KERNEL bias_activation_backward(real* dy, const real* y, const real* weights, real* part, int rows, int O, int kind,
                                real alpha) {
    __shared__ real sums[STRIPS][COLUMNS];
    int column = blockIdx.x * COLUMNS + threadIdx.x;
    real sum = 0;
    if (column < O)
        for (int row = blockIdx.y * STRIPS + threadIdx.y; row < rows; row += gridDim.y * STRIPS) {
            long long i = (long long)row * O + column;
            real d = dy[i];
            if (y) dy[i] = d = activation_backward(d, y[i], kind);
            sum += weights ? weights[row] * d : d;
        }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (int half = STRIPS / 2; half; half /= 2) {
        if (threadIdx.y < half) sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
        __syncthreads();
    }
    if (threadIdx.y == 0 && column < O) part[blockIdx.y * (long long)O + column] = alpha * sums[0][threadIdx.x];
}

// dy [rows, O] times the weight [rows] of each row, in place.
KERNEL weigh_rows(real* dy, const real* weights, int rows, int O) {
    GRID_STRIDE(i, rows * O) dy[i] *= weights[i / O];
}

// out [n] = part [strips, n] summed over strips, in order.
KERNEL sum_strips(const real* part, real* out, int strips, int n) {
    GRID_STRIDE(i, n) {
        real sum = part[i];
        for (int s = 1; s < strips; s++) sum += part[(long long)s * n + i];
        out[i] = sum;
    }
}

// y [rows, O] = activation(bias + sum over d of weight[d K + codes[row, d]]): the affine map of one-hot rows.
KERNEL code_linear(const long long* codes, const real* weight, const real* bias, real* y, int rows, int D, int K,
                   int O, int kind) {
    GRID_STRIDE(i, rows * O) {
        unsigned row = i / O, o = i % O;
        real sum = bias[o];
        for (int d = 0; d < D; d++) sum += weight[((long long)d * K + codes[(long long)row * D + d]) * O + o];
        y[i] = activation(sum, kind);
    }
}

// Its adjoint w.r.t. the weight: part [gridDim.z, D K, O], the rows of alpha weights[row] dy [rows, O] added to the
// bins of their codes. Block: COLUMNS x STRIPS; grid: columns, D times chunks of BINS categories, strips of rows.
KERNEL code_linear_backward(const real* dy, const long long* codes, const real* weights, real* part, int rows, int D,
                            int K, int O, real alpha) {
    __shared__ real bins[STRIPS][BINS][COLUMNS];
    int chunks = (K + BINS - 1) / BINS, d = blockIdx.y / chunks, k0 = blockIdx.y % chunks * BINS;
    int column = blockIdx.x * COLUMNS + threadIdx.x, strip = threadIdx.y, lane = threadIdx.x;
    for (int k = 0; k < BINS; k++) bins[strip][k][lane] = 0;
    if (column < O)
        for (int row = blockIdx.z * STRIPS + strip; row < rows; row += gridDim.z * STRIPS) {
            long long k = codes[(long long)row * D + d] - k0;
            if (k < 0 || k >= BINS) continue;
            real v = dy[(long long)row * O + column];
            bins[strip][k][lane] += weights ? weights[row] * v : v;
        }
    __syncthreads();
    for (int half = STRIPS / 2; half; half /= 2) {
        if (strip < half)
            for (int k = 0; k < BINS; k++) bins[strip][k][lane] += bins[strip + half][k][lane];
        __syncthreads();
    }
    if (column < O)
        for (int k = strip; k < BINS && k0 + k < K; k += STRIPS)
            part[((blockIdx.z * (long long)D + d) * K + k0 + k) * O + column] = alpha * bins[0][k][lane];
}
