#include "common.cuh"

// h [rows] = -sum p log p of log_p [rows, K], kept between 0 and log K; with `kl`, log K - h.
KERNEL entropy(const real* log_p, real* h, int rows, int K, int kl) {
    real ceiling = log((real)K);
    for (RowLoop r(rows, K); r.more(); r.next()) {
        real part = 0;
        CATEGORIES(k, r, K) part -= exp(log_p[r.row * K + k]) * log_p[r.row * K + k];
        real v = r.sum(part);
        v = v < 0 ? (real)0 : v > ceiling ? ceiling : v;
        if (r.live && r.lane == 0) h[r.row] = kl ? ceiling - v : v;
    }
}

// dx = -sign dh p (log_p + h): the gradient of `entropy` w.r.t. the logits; sign is -1 for the KL.
KERNEL entropy_backward(const real* dh, const real* log_p, real* dx, int rows, int K, real sign) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real* row = log_p + r.row * K;
        real part = 0;
        CATEGORIES(k, r, K) part -= exp(row[k]) * row[k];
        real h = r.sum(part);
        CATEGORIES(k, r, K)
            if (r.live) dx[r.row * K + k] = -sign * dh[r.row] * exp(row[k]) * (row[k] + h);
    }
}

// kl [rows] = sum q (log_q - log_p), never negative; log_p [p_rows, K] repeats.
KERNEL kl_categorical(const real* log_q, const real* log_p, real* kl, int rows, int p_rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real *q = log_q + r.row * K, *p = log_p + r.row % p_rows * K;
        real part = 0;
        CATEGORIES(k, r, K) part += exp(q[k]) * (q[k] - p[k]);
        real v = r.sum(part);
        if (r.live && r.lane == 0) kl[r.row] = v < 0 ? (real)0 : v;
    }
}

// dq = dkl q (ratio - <q, ratio>), dp = dkl (p - q), w.r.t. the logits of both; ratio = log_q - log_p.
KERNEL kl_categorical_backward(const real* dkl, const real* log_q, const real* log_p, real* dq, real* dp, int rows,
                               int p_rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real *q = log_q + r.row * K, *p = log_p + r.row % p_rows * K;
        real part = 0;
        CATEGORIES(k, r, K) part += exp(q[k]) * (q[k] - p[k]);
        real inner = r.sum(part), d = dkl[r.row];
        CATEGORIES(k, r, K)
            if (r.live) {
                dq[r.row * K + k] = d * exp(q[k]) * ((q[k] - p[k]) - inner);
                dp[r.row * K + k] = d * (exp(p[k]) - exp(q[k]));
            }
    }
}
