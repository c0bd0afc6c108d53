// Logistic function and softplus from one exponential of a number that is not positive.
__device__ __forceinline__ real sigmoid_of(real x, real e) { return x > 0 ? 1 / (1 + e) : e / (1 + e); }
__device__ __forceinline__ real softplus_of(real x, real e) { return (x > 0 ? x : (real)0) + log1p(e); }
__device__ __forceinline__ real decay_of(real x) { return exp(x > 0 ? -x : x); }
