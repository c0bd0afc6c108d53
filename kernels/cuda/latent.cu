#include "common.cuh"
#include "categorical.cuh"
#include "philox.cuh"
#include "schedule.cuh"
#include "latent.cuh"

// Adds the bias [D K] to the encoder's output h [B, D K] in place (now logits), writes the KL of each latent [B, D].
__device__ __forceinline__ real* add_bias(real* h, const real* bias, int D, int K, const RowLoop& r) {
    real* row = h + r.row * K;
    const real* b = bias + (int)r.row % D * K;
    CATEGORIES(k, r, K)
        if (r.live) row[k] += b[k];
    __syncwarp();
    return row;
}

// Hard codes [S, B, D] by inverting the cumulative distribution; uniforms of (step, example, latent), word s.
KERNEL latent_hard(real* h, const real* bias, const real* prior, const long long* clock, long long* codes, real* kl,
                   unsigned stream, int S, int B, int D, int K) {
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = add_bias(h, bias, D, K, r);
        int b = (int)r.row / D, d = (int)r.row % D;
        Posterior posterior(row, prior ? prior + d * K : prior, K, r);
        LogSoftmax q = posterior.q;
        if (r.live && r.lane == 0) kl[r.row] = posterior.kl(K);
        for (int s = 0; s < S; s++) {
            real u = uniform((unsigned)clock[SEED], stream, (unsigned)clock[STEP], (unsigned)b, (unsigned)d, 0, s);
            int code = inverse_cdf_row([=](int k) { return q.p(row[k]); }, u, K, r);
            if (r.live && r.lane == 0) codes[(s * (long long)B + b) * D + d] = code;
        }
    }
}

// Gumbel noise [S, B, D, K], word s K + k, and codes [S, B, D] = argmax of the perturbed logits; where `relaxed` is
// given also softmax of them over the temperature [S, B, D, K].
KERNEL latent_gumbel(real* h, const real* bias, const real* prior, const long long* clock, const double* settings,
                     long long* codes, real* gumbels, real* relaxed, real* kl, unsigned stream, int S, int B, int D,
                     int K) {
    real cold = (real)(1 / setting(settings, clock, TEMPERATURE));
    for (RowLoop r(B * D, K); r.more(); r.next()) {
        const real* row = add_bias(h, bias, D, K, r);
        int b = (int)r.row / D, d = (int)r.row % D;
        Posterior posterior(row, prior ? prior + d * K : prior, K, r);
        if (r.live && r.lane == 0) kl[r.row] = posterior.kl(K);
        for (int s = 0; s < S; s++) {
            long long at = (s * (long long)B + b) * D + d;
            real* g = gumbels + at * K;
            CATEGORIES(k, r, K) {
                real u = uniform((unsigned)clock[SEED], stream, (unsigned)clock[STEP], (unsigned)b, (unsigned)d, 0,
                                 s * (long long)K + k);
                if (r.live) g[k] = -log(-log(u));
            }
            __syncwarp();
            int code = argmax_row([=](int k) { return row[k] + g[k]; }, K, r);
            if (r.live && r.lane == 0) codes[at] = code;
            if (!relaxed) continue;
            auto noisy = [=](int k) { return (row[k] + g[k]) * cold; };
            LogSoftmax y(noisy, K, r);
            CATEGORIES(k, r, K)
                if (r.live) relaxed[at * K + k] = y.p(noisy(k));
        }
    }
}
