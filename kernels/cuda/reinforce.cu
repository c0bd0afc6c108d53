#include "common.cuh"
#include "schedule.cuh"
#include "latent.cuh"
#define CONSTANT 0
#define LEAVE_ONE_OUT 1
#define MEAN 2

// dh [B, D K] = scale (mean over s of coefficient[s, b] (z - p) + KL), REINFORCE and RLOO. The coefficient is
// CONSTANT: cost - value; LEAVE_ONE_OUT: (cost - mean over s) S / (S - 1), where p drops out;
// MEAN: value (cost - mean[0] / max(mean[1], least)), a mean over the batch or of past steps.
KERNEL reinforce(const real* logits, const real* prior, const long long* codes, const real* cost, const real* kl,
                 const double* mean, const double* settings, const long long* clock, real* dh, real* dprior, int S,
                 int B, int D, int K, int kind, real value, double least, real free_bits, real scale) {
    real weight = (real)setting(settings, clock, KL_WEIGHT), centre = 0;
    real even = 1 / (real)S, share = kind == LEAVE_ONE_OUT ? 1 / (real)(S - 1) : even;
    if (kind == MEAN) centre = (real)(mean[0] / (mean[1] > least ? mean[1] : least));
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = logits + r.row * K;
        real* out = dh + r.row * K;
        int b = (int)r.row / D, d = (int)r.row % D;
        if (kind == LEAVE_ONE_OUT) {
            centre = 0;
            for (int s = 0; s < S; s++) centre += cost[s * (long long)B + b];
            centre *= even;
        }
        LogSoftmax q(Row{row}, K, r);
        CATEGORIES(k, r, K) {
            real hit = 0, total = 0;
            for (int s = 0; s < S; s++) {
                real f = cost[s * (long long)B + b];
                real coefficient = kind == CONSTANT ? f - value : kind == MEAN ? value * (f - centre) : f - centre;
                total += coefficient;
                if (codes[(s * (long long)B + b) * D + d] == k) hit += coefficient;
            }
            if (r.live) out[k] = (kind == LEAVE_ONE_OUT ? hit : hit - total * q.p(row[k])) * share;
        }
        finish_row(out, dprior ? dprior + r.row * K : dprior, row, prior ? prior + d * K : prior,
                   kl[r.row] >= free_bits ? weight : (real)0, scale, K, r);
    }
}

// mean [2] = sum and number of the costs of a batch, for MEAN. One block.
KERNEL batch_mean(const real* cost, double* mean, int n) {
    __shared__ double part[THREADS];
    double sum = 0;
    for (long long i = threadIdx.x; i < n; i += THREADS) sum += (double)cost[i];
    double total = block_sum(sum, part);
    if (threadIdx.x == 0) mean[0] = total, mean[1] = (double)n;
}
