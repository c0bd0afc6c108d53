#include "common.cuh"
#include "schedule.cuh"
#include "latent.cuh"

// dh [B, D K] = scale (mean over s of <dcodes, z - c> (z - p) + KL), c = 1 / K, or p where `probabilities`.
KERNEL darn(const real* logits, const real* prior, const long long* codes, const real* dcodes, const real* kl,
            const double* settings, const long long* clock, real* dh, real* dprior, int S, int B, int D, int K,
            int probabilities, real free_bits, real scale) {
    real weight = (real)setting(settings, clock, KL_WEIGHT), share = 1 / (real)S, even = 1 / (real)K;
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = logits + r.row * K;
        real* out = dh + r.row * K;
        int b = (int)r.row / D, d = (int)r.row % D;
        LogSoftmax q(Row{row}, K, r);
        for (int s = 0; s < S; s++) {
            int code = (int)codes[(s * (long long)B + b) * D + d];
            const real* g = dcodes + (s * (long long)B * D + r.row) * K;
            real part = 0;
            CATEGORIES(k, r, K) part += g[k] * ((k == code) - (probabilities ? q.p(row[k]) : even));
            real taylor = r.sum(part) * share;
            CATEGORIES(k, r, K)
                if (r.live) out[k] = (s ? out[k] : (real)0) + taylor * ((k == code) - q.p(row[k]));
        }
        finish_row(out, dprior ? dprior + r.row * K : dprior, row, prior ? prior + d * K : prior,
                   kl[r.row] >= free_bits ? weight : (real)0, scale, K, r);
    }
}
