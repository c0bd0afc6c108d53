#include "common.cuh"
#include "schedule.cuh"
#include "latent.cuh"

// Exact enumeration: all C = K^D codes, last latent fastest, shared by the batch.

// Adds the bias [D K] to the encoder's output h [B, D K] in place (now logits); log_q [B, D K] and the KL [B, D].
KERNEL latent_exact(real* h, const real* bias, const real* prior, real* log_q, real* kl, int B, int D, int K) {
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        real* row = h + r.row * K;
        int d = (int)r.row % D;
        CATEGORIES(k, r, K)
            if (r.live) row[k] += bias[d * K + k];
        __syncwarp();
        Posterior posterior(row, prior ? prior + d * K : prior, K, r);
        CATEGORIES(k, r, K)
            if (r.live) log_q[r.row * K + k] = posterior.q.log_p(row[k]);
        if (r.live && r.lane == 0) kl[r.row] = posterior.kl(K);
    }
}

// q [C, B], the probability of each code (eq. 80).
KERNEL exact_weights(const real* log_q, const long long* codes, real* q, int C, int B, int D, int K) {
    GRID_STRIDE(i, C * B) {
        unsigned c = i / B, b = i % B;
        real total = 0;
        for (int d = 0; d < D; d++) total += log_q[(b * (long long)D + d) * K + codes[(long long)c * D + d]];
        q[i] = exp(total);
    }
}

// v [C, B] = q (cost - cost of the first code): what is summed stays small.
KERNEL exact_product(const real* q, const real* cost, real* v, int C, int B) {
    GRID_STRIDE(i, C * B) v[i] = q[i] * (cost[i] - cost[i % B]);
}

// dh [B, D K] = scale (sums - p mean + KL), sums [D K, B] those of v over the codes with z_d = k: q (E[f | z] - E f).
// expected [B] = E f.
KERNEL exact_backward(const real* logits, const real* prior, const real* sums, const real* cost, const real* kl,
                      const double* settings, const long long* clock, real* dh, real* dprior, real* expected, int B,
                      int D, int K, real free_bits, real scale) {
    real weight = (real)setting(settings, clock, KL_WEIGHT);
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = logits + r.row * K;
        real* out = dh + r.row * K;
        int b = (int)r.row / D, d = (int)r.row % D;
        LogSoftmax q(Row{row}, K, r);
        real part = 0;
        CATEGORIES(k, r, K) part += sums[((long long)d * K + k) * B + b];
        real mean = r.sum(part);
        CATEGORIES(k, r, K)
            if (r.live) out[k] = sums[((long long)d * K + k) * B + b] - q.p(row[k]) * mean;
        if (r.live && r.lane == 0 && d == 0) expected[b] = mean + cost[b];
        finish_row(out, dprior ? dprior + r.row * K : dprior, row, prior ? prior + d * K : prior,
                   kl[r.row] >= free_bits ? weight : (real)0, scale, K, r);
    }
}
