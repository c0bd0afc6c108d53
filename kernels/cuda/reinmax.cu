#include "common.cuh"
#include "schedule.cuh"
#include "latent.cuh"

// dh [B, D K] = scale (mean over s of 2 J(pb) dcodes - J(p) g / 2 + KL), pb = (softmax(logits / tau) + z) / 2,
// p = softmax(logits), g the mean of dcodes [S, B, D, K] over s. At tau = 1 this is ZGR.
KERNEL reinmax(const real* logits, const real* prior, const long long* codes, const real* dcodes, const real* kl,
               const double* settings, const long long* clock, real* dh, real* dprior, int S, int B, int D, int K,
               real free_bits, real scale) {
    real weight = (real)setting(settings, clock, KL_WEIGHT), cold = (real)(1 / setting(settings, clock, TEMPERATURE));
    real share = 1 / (real)S;
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = logits + r.row * K;
        real* out = dh + r.row * K;
        int b = (int)r.row / D, d = (int)r.row % D;
        long long stride = (long long)B * D * K;
        pull_back(Row{row}, Mean{dcodes + r.row * K, stride, S, share}, K, r, [=](int k, real v) { out[k] = -v / 2; });
        auto cooled = [=](int k) { return row[k] * cold; };
        LogSoftmax p(cooled, K, r);
        for (int s = 0; s < S; s++) {
            int code = (int)codes[(s * (long long)B + b) * D + d];
            const real* g = dcodes + s * stride + r.row * K;
            real part = 0;
            CATEGORIES(k, r, K) part += (p.p(cooled(k)) + (k == code)) * g[k];
            real inner = r.sum(part) / 2;
            CATEGORIES(k, r, K)
                if (r.live) out[k] += (p.p(cooled(k)) + (k == code)) * (g[k] - inner) * share;
        }
        finish_row(out, dprior ? dprior + r.row * K : dprior, row, prior ? prior + d * K : prior,
                   kl[r.row] >= free_bits ? weight : (real)0, scale, K, r);
    }
}
