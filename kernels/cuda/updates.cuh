// The optimizers, as npdvae.ops.updates has them; rate and scale hold what depends on the number of the update, and
// fresh1 = 1 - beta1 and fresh2 = 1 - beta2 are rounded once, on the host: 1 - 0.999f would be off by 5e-5.
struct Moments { real p, m, v; };

__device__ __forceinline__ Moments sgd_rule(real p, real g, real m, real lr, real momentum) {
    m = momentum * m + g;
    return {p - lr * m, m, 0};
}

// rate = lr / (1 - beta1^t), scale = sqrt(1 - beta2^t).
__device__ __forceinline__ Moments adam_rule(real p, real g, real m, real v, real rate, real scale, real fresh1,
                                             real fresh2, real eps) {
    m += fresh1 * (g - m);
    v += fresh2 * (g * g - v);
    return {p - rate * m / (sqrt(v) / scale + eps), m, v};
}

// scale = rectifier sqrt(1 - beta2^t), or negative while the variance is not tractable: momentum only.
__device__ __forceinline__ Moments radam_rule(real p, real g, real m, real v, real rate, real scale, real fresh1,
                                              real fresh2, real eps) {
    m += fresh1 * (g - m);
    v += fresh2 * (g * g - v);
    real step = rate * m;
    return {scale < 0 ? p - step : p - step * scale / (sqrt(v) + eps), m, v};
}
