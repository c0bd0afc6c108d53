#include "common.cuh"
#include "schedule.cuh"

// Sums of cost [evaluations] and KL [entries] by each of the blocks: shares [2, blocks].
KERNEL share_sums(const real* cost, const real* kl, double* shares, long long evaluations, long long entries) {
    __shared__ double part[THREADS];
    long long first = blockIdx.x * THREADS + threadIdx.x, step = (long long)gridDim.x * THREADS;
    double c = 0, k = 0;
    for (long long i = first; i < evaluations; i += step) c += (double)cost[i];
    for (long long i = first; i < entries; i += step) k += (double)kl[i];
    c = block_sum(c, part);
    k = block_sum(k, part);
    if (threadIdx.x) return;
    shares[blockIdx.x] = c;
    shares[gridDim.x + blockIdx.x] = k;
}

// The end of a step, one block: sums [steps, 2] of cost (mean over samples) and KL in nats, from `blocks` shares where
// there are any; a running mean of the cost (mean [2], may be null: weighted sum and sum of weights), and the clock.
KERNEL advance(const real* cost, const real* kl, const double* shares, double* sums, double* mean, long long* clock,
               int S, int B, int D, int blocks, double decay) {
    __shared__ double part[THREADS];
    long long evaluations = (long long)S * B;
    double c = 0, k = 0;
    if (shares) {
        for (int i = threadIdx.x; i < blocks; i += THREADS) {
            c += shares[i];
            k += shares[blocks + i];
        }
    } else {
        for (long long i = threadIdx.x; i < evaluations; i += THREADS) c += (double)cost[i];
        for (long long i = threadIdx.x; i < (long long)B * D; i += THREADS) k += (double)kl[i];
    }
    c = block_sum(c, part);
    k = block_sum(k, part);
    if (threadIdx.x) return;
    sums[2 * clock[BATCH]] = c / S;
    sums[2 * clock[BATCH] + 1] = k;
    if (mean) {
        mean[0] = decay * mean[0] + (1 - decay) * (c / evaluations);
        mean[1] = decay * mean[1] + (1 - decay);
    }
    clock[STEP]++;
    clock[BATCH]++;
}
