// A category from a uniform number: how many of the first K - 1 cumulative sums are at or below u, and never a category
// of probability zero. `p(k)` gives the probability; all lanes of the row get the answer.
template <class P>
__device__ int inverse_cdf_row(P p, real u, int K, const RowLoop& r) {
    real below = 0;
    int count = 0, last = 0;
    for (int c = 0; c < r.chunks(K); c++) {
        int k = c * r.width + r.lane;
        real here = k < K ? p(k) : (real)0;
        real edge = below + r.running(here);
        count += k < K - 1 && edge <= u;
        if (here > 0) last = k;
        below = r.from_last(edge);
    }
    count = r.sum(count);
    last = r.largest(last);
    return count < last ? count : last;
}

// The category of the largest value, the first of equals, below K even where all are NaN. `value(k)` for k < K.
template <class V>
__device__ int argmax_row(V value, int K, const RowLoop& r) {
    real best = value(r.lane < K ? r.lane : 0);
    int at = r.lane < K ? r.lane : K;
    for (int k = r.lane + r.width; k < K; k += r.width)
        if (value(k) > best) best = value(k), at = k;
    real top = r.largest(best);
    return min(-r.largest(best == top ? -at : -K), K - 1);
}
