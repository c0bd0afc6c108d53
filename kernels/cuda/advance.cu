#include "common.cuh"
#include "schedule.cuh"

// The end of a step, one block: sums [steps, 2] of cost (mean over samples) and KL in nats, a running mean of the cost
// (mean [2], may be null: weighted sum and sum of weights), and the clock.
KERNEL advance(const real* cost, const real* kl, double* sums, double* mean, long long* clock, int S, int B, int D,
               double decay) {
    __shared__ double part[THREADS];
    long long evaluations = (long long)S * B;
    double c = 0, k = 0;
    for (long long i = threadIdx.x; i < evaluations; i += THREADS) c += (double)cost[i];
    for (long long i = threadIdx.x; i < (long long)B * D; i += THREADS) k += (double)kl[i];
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
