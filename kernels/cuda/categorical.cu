#include "common.cuh"
#include "categorical.cuh"

// codes [rows] from p [p_rows, K] (repeats) and u [rows].
KERNEL inverse_cdf(const real* p, const real* u, long long* codes, int rows, int p_rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real* row = p + r.row % p_rows * K;
        int code = inverse_cdf_row(Row{row}, u[r.row], K, r);
        if (r.live && r.lane == 0) codes[r.row] = code;
    }
}

// codes [rows] = argmax of logits [x_rows, K] (repeats) + gumbels [rows, K].
KERNEL gumbel_max(const real* logits, const real* gumbels, long long* codes, int rows, int x_rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real *x = logits + r.row % x_rows * K, *g = gumbels + r.row * K;
        int code = argmax_row([=](int k) { return x[k] + g[k]; }, K, r);
        if (r.live && r.lane == 0) codes[r.row] = code;
    }
}

KERNEL one_hot(const long long* codes, real* z, int rows, int K) {
    GRID_STRIDE(i, rows * K) z[i] = codes[i / K] == i % K ? (real)1 : (real)0;
}

// total [rows] = sum over d of log_p[(row D + d) mod p_rows, codes[row, d]].
KERNEL log_prob(const real* log_p, const long long* codes, real* total, int rows, int p_rows, int D, int K) {
    GRID_STRIDE(i, rows) {
        real sum = 0;
        for (int d = 0; d < D; d++) sum += log_p[(i * (unsigned)D + d) % p_rows * K + codes[i * (unsigned)D + d]];
        total[i] = sum;
    }
}

// dlog_p [rows, D, K] = dlog_q[row] at the codes, else 0.
KERNEL log_prob_backward(const real* dlog_q, const long long* codes, real* dlog_p, int rows, int D, int K) {
    GRID_STRIDE(i, rows * D * K) dlog_p[i] = codes[i / K] == i % K ? dlog_q[i / K / D] : (real)0;
}
