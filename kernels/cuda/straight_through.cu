#include "common.cuh"
#include "schedule.cuh"
#include "latent.cuh"

// dh [B, D K] = scale (J(softmax(logits / tau)) g [/ tau] + KL), g the mean of dcodes [S, B, D, K] over s.
KERNEL straight_through(const real* logits, const real* prior, const real* dcodes, const real* kl,
                        const double* settings, const long long* clock, real* dh, real* dprior, int S, int B, int D,
                        int K, int divide, real free_bits, real scale) {
    real weight = (real)setting(settings, clock, KL_WEIGHT), cold = (real)(1 / setting(settings, clock, TEMPERATURE));
    real share = divide ? cold : (real)1;
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = logits + r.row * K;
        real* out = dh + r.row * K;
        int d = (int)r.row % D;
        Mean g{dcodes + r.row * K, (long long)B * D * K, S, 1 / (real)S};
        pull_back([=](int k) { return row[k] * cold; }, g, K, r, [=](int k, real v) { out[k] = share * v; });
        finish_row(out, dprior ? dprior + r.row * K : dprior, row, prior ? prior + d * K : prior,
                   kl[r.row] >= free_bits ? weight : (real)0, scale, K, r);
    }
}
