#include "common.cuh"
#include "schedule.cuh"
#include "latent.cuh"

// dh [B, D K] = scale (mean over s of J(y) dcodes / tau + KL), y = softmax((logits + gumbels) / tau) [S, B, D, K]:
// Gumbel-softmax where the decoder saw y, straight-through Gumbel where it saw the hard codes.
KERNEL gumbel_softmax(const real* logits, const real* prior, const real* gumbels, const real* dcodes, const real* kl,
                      const double* settings, const long long* clock, real* dh, real* dprior, int S, int B, int D,
                      int K, real free_bits, real scale) {
    real weight = (real)setting(settings, clock, KL_WEIGHT), cold = (real)(1 / setting(settings, clock, TEMPERATURE));
    real share = cold / S;
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = logits + r.row * K;
        real* out = dh + r.row * K;
        int d = (int)r.row % D;
        for (int s = 0; s < S; s++) {
            long long at = s * (long long)B * D * K + r.row * K;
            const real* g = gumbels + at;
            pull_back([=](int k) { return (row[k] + g[k]) * cold; }, Row{dcodes + at}, K, r,
                      [=](int k, real v) { out[k] = (s ? out[k] : (real)0) + share * v; });
        }
        finish_row(out, dprior ? dprior + r.row * K : dprior, row, prior ? prior + d * K : prior,
                   kl[r.row] >= free_bits ? weight : (real)0, scale, K, r);
    }
}
