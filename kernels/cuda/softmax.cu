#include "common.cuh"

KERNEL softmax(const real* x, real* p, int rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real* row = x + r.row * K;
        LogSoftmax q(Row{row}, K, r);
        CATEGORIES(k, r, K)
            if (r.live) p[r.row * K + k] = q.p(row[k]);
    }
}

// dx = p (dp - <p, dp>); dp [rows, K], p [p_rows, K] repeats.
KERNEL softmax_backward(const real* dp, const real* p, real* dx, int rows, int p_rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real *row = p + r.row % p_rows * K, *d = dp + r.row * K;
        real part = 0;
        CATEGORIES(k, r, K) part += row[k] * d[k];
        real inner = r.sum(part);
        CATEGORIES(k, r, K)
            if (r.live) dx[r.row * K + k] = row[k] * (d[k] - inner);
    }
}

KERNEL log_softmax(const real* x, real* log_p, int rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real* row = x + r.row * K;
        LogSoftmax q(Row{row}, K, r);
        CATEGORIES(k, r, K)
            if (r.live) log_p[r.row * K + k] = q.log_p(row[k]);
    }
}

// dx = dlog_p - p sum dlog_p; log_p [p_rows, K] repeats.
KERNEL log_softmax_backward(const real* dlog_p, const real* log_p, real* dx, int rows, int p_rows, int K) {
    for (RowLoop r(rows, K); r.more(); r.next()) {
        const real *row = log_p + r.row % p_rows * K, *d = dlog_p + r.row * K;
        real part = 0;
        CATEGORIES(k, r, K) part += d[k];
        real total = r.sum(part);
        CATEGORIES(k, r, K)
            if (r.live) dx[r.row * K + k] = d[k] - exp(row[k]) * total;
    }
}
