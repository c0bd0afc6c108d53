// The KL term of one latent (eq. 66 and 70, or against a learned prior) as seen by the lanes of its row. prior_logits
// is a row of the learned prior's logits, or null for the uniform one, whose log K drops out of the gradients.
struct Posterior {
    LogSoftmax q, prior;
    const real *logits, *prior_logits;
    real mean_ratio;                                                // <q, log q - log p>

    __device__ Posterior(const real* logits, const real* prior_logits, int K, const RowLoop& r)
        : q(Row{logits}, K, r), prior(Row{prior_logits ? prior_logits : logits}, K, r), logits(logits),
          prior_logits(prior_logits) {
        real part = 0;
        CATEGORIES(k, r, K) part += exp(q.log_p(logits[k])) * ratio(k);
        mean_ratio = r.sum(part);
    }
    __device__ real ratio(int k) const {
        real log_q = q.log_p(logits[k]);
        return prior_logits ? log_q - prior.log_p(prior_logits[k]) : log_q;
    }
    __device__ real kl(int K) const {
        real log_k = log((real)K), v = prior_logits ? mean_ratio : log_k + mean_ratio;
        return v < 0 ? (real)0 : !prior_logits && v > log_k ? log_k : v;
    }
    // d KL / d logits[k] and d KL / d prior_logits[k].
    __device__ real dlogits(int k) const { return exp(q.log_p(logits[k])) * (ratio(k) - mean_ratio); }
    __device__ real dprior(int k) const { return exp(prior.log_p(prior_logits[k])) - exp(q.log_p(logits[k])); }
};

// What every latent backward ends with: out[k] holds the estimate and becomes scale (estimate + dkl dKL/dlogits), dkl
// the weight of a KL that is not below the free bits; dprior = scale dkl dKL/dprior, where a prior is learned.
__device__ __forceinline__ void finish_row(real* out, real* dprior, const real* logits, const real* prior_logits,
                                           real dkl, real scale, int K, const RowLoop& r) {
    Posterior posterior(logits, prior_logits, K, r);
    CATEGORIES(k, r, K) {
        if (!r.live) continue;
        out[k] = scale * (out[k] + dkl * posterior.dlogits(k));
        if (dprior) dprior[k] = scale * dkl * posterior.dprior(k);
    }
}

// Mean over samples of an array [S, ...]: x points at the row in the first sample.
struct Mean {
    const real* x;
    long long stride;
    int S;
    real share;                                                     // 1 / S

    __device__ real operator()(int k) const {
        real sum = 0;
        for (int s = 0; s < S; s++) sum += x[s * stride + k];
        return sum * share;
    }
};

// The adjoint of a row's softmax, J(y) g = y (g - <y, g>) with y = softmax of value(k); store(k, v) gets each entry.
template <class V, class G, class Store>
__device__ __forceinline__ void pull_back(V value, G g, int K, const RowLoop& r, Store store) {
    LogSoftmax y(value, K, r);
    real part = 0;
    CATEGORIES(k, r, K) part += y.p(value(k)) * g(k);
    real inner = r.sum(part);
    CATEGORIES(k, r, K)
        if (r.live) store(k, y.p(value(k)) * (g(k) - inner));
}
