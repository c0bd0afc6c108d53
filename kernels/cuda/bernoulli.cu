#include "common.cuh"
#include "bernoulli.cuh"

KERNEL sigmoid(const real* x, real* y, int n) {
    GRID_STRIDE(i, n) y[i] = sigmoid_of(x[i], decay_of(x[i]));
}

KERNEL softplus(const real* x, real* y, int n) {
    GRID_STRIDE(i, n) y[i] = softplus_of(x[i], decay_of(x[i]));
}

// cost [rows] = sum over pixels of softplus(l) - x l, l = logits [rows, P] + bias (may be null), x [x_rows, P] repeats.
// dlogits (may be null, may be logits) = sigmoid(l) - x: the gradient of each row's cost. One block a row.
KERNEL bce(const real* logits, const real* bias, const real* x, real* cost, real* dlogits, int rows, int x_rows,
           int P) {
    __shared__ real part[THREADS];
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const real* target = x + (long long)(row % x_rows) * P;
        long long start = (long long)row * P;
        real sum = 0;
        for (int j = threadIdx.x; j < P; j += THREADS) {
            real l = logits[start + j], t = target[j];
            if (bias) l += bias[j];
            real e = decay_of(l);
            sum += softplus_of(l, e) - t * l;
            if (dlogits) dlogits[start + j] = sigmoid_of(l, e) - t;
        }
        real total = block_sum(sum, part);
        if (threadIdx.x == 0) cost[row] = total;
    }
}

// dlogits = dcost[row] (sigmoid(logits) - x).
KERNEL bce_backward(const real* dcost, const real* logits, const real* x, real* dlogits, int rows, int x_rows,
                    int P) {
    GRID_STRIDE(i, rows * P) {
        unsigned row = i / P;
        real target = x[(long long)(row % x_rows) * P + i % P];
        dlogits[i] = dcost[row] * (sigmoid_of(logits[i], decay_of(logits[i])) - target);
    }
}

// Codes shared by the batch. product [S, B] = logits x^T becomes the cost: softplus(logits).sum - product.
KERNEL bce_shared(const real* logits, real* product, int S, int B, int P) {
    __shared__ real part[THREADS];
    for (long long s = blockIdx.x; s < S; s += gridDim.x) {
        real sum = 0;
        for (int j = threadIdx.x; j < P; j += THREADS) {
            real l = logits[s * P + j];
            sum += softplus_of(l, decay_of(l));
        }
        real total = block_sum(sum, part);
        for (int b = threadIdx.x; b < B; b += THREADS) product[s * B + b] = total - product[s * B + b];
    }
}

// product [S, P] = dcost x becomes dlogits: dcost.sum sigmoid(logits) - product.
KERNEL bce_shared_backward(const real* dcost, const real* logits, real* product, int S, int B, int P) {
    __shared__ real part[THREADS];
    for (long long s = blockIdx.x; s < S; s += gridDim.x) {
        real sum = 0;
        for (int b = threadIdx.x; b < B; b += THREADS) sum += dcost[s * B + b];
        real total = block_sum(sum, part);
        for (int j = threadIdx.x; j < P; j += THREADS) {
            long long i = s * P + j;
            product[i] = total * sigmoid_of(logits[i], decay_of(logits[i])) - product[i];
        }
    }
}
