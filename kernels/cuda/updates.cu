#include "common.cuh"
#include "updates.cuh"
#include "schedule.cuh"

// One update of every entry. Inputs and outputs may be the same arrays.
KERNEL sgd(const real* p, const real* g, const real* m, real* p_out, real* m_out, int n, real lr, real momentum) {
    GRID_STRIDE(i, n) {
        Moments next = sgd_rule(p[i], g[i], m[i], lr, momentum);
        p_out[i] = next.p, m_out[i] = next.m;
    }
}

KERNEL adam(const real* p, const real* g, const real* m, const real* v, real* p_out, real* m_out, real* v_out, int n,
            real rate, real scale, real fresh1, real fresh2, real eps) {
    GRID_STRIDE(i, n) {
        Moments next = adam_rule(p[i], g[i], m[i], v[i], rate, scale, fresh1, fresh2, eps);
        p_out[i] = next.p, m_out[i] = next.m, v_out[i] = next.v;
    }
}

KERNEL radam(const real* p, const real* g, const real* m, const real* v, real* p_out, real* m_out, real* v_out, int n,
             real rate, real scale, real fresh1, real fresh2, real eps) {
    GRID_STRIDE(i, n) {
        Moments next = radam_rule(p[i], g[i], m[i], v[i], rate, scale, fresh1, fresh2, eps);
        p_out[i] = next.p, m_out[i] = next.m, v_out[i] = next.v;
    }
}

// The same in place, all parameters in one array, rates from the schedule on the device, the gradient times clip[0]
// (clip may be null).
KERNEL sgd_scheduled(real* p, const real* g, real* m, int n, const double* settings, const long long* clock,
                     const double* clip, real momentum) {
    real lr = (real)setting(settings, clock, RATE), factor = clip ? (real)clip[0] : (real)1;
    GRID_STRIDE(i, n) {
        Moments next = sgd_rule(p[i], g[i] * factor, m[i], lr, momentum);
        p[i] = next.p, m[i] = next.m;
    }
}

KERNEL adam_scheduled(real* p, const real* g, real* m, real* v, int n, const double* settings, const long long* clock,
                      const double* clip, real fresh1, real fresh2, real eps) {
    real rate = (real)setting(settings, clock, RATE), scale = (real)setting(settings, clock, SCALE);
    real factor = clip ? (real)clip[0] : (real)1;
    GRID_STRIDE(i, n) {
        Moments next = adam_rule(p[i], g[i] * factor, m[i], v[i], rate, scale, fresh1, fresh2, eps);
        p[i] = next.p, m[i] = next.m, v[i] = next.v;
    }
}

KERNEL radam_scheduled(real* p, const real* g, real* m, real* v, int n, const double* settings,
                       const long long* clock, const double* clip, real fresh1, real fresh2, real eps) {
    real rate = (real)setting(settings, clock, RATE), scale = (real)setting(settings, clock, SCALE);
    real factor = clip ? (real)clip[0] : (real)1;
    GRID_STRIDE(i, n) {
        Moments next = radam_rule(p[i], g[i] * factor, m[i], v[i], rate, scale, fresh1, fresh2, eps);
        p[i] = next.p, m[i] = next.m, v[i] = next.v;
    }
}

// Sums of squares of g [n], one for each block; then clip[0] = the factor that brings the norm down to `limit`, or 1.
KERNEL squares(const real* g, double* part, int n) {
    __shared__ double sums[THREADS];
    double sum = 0;
    GRID_STRIDE(i, n) sum += (double)g[i] * (double)g[i];
    double total = block_sum(sum, sums);
    if (threadIdx.x == 0) part[blockIdx.x] = total;
}

KERNEL clip_factor(const double* part, double* clip, int n, double limit) {
    __shared__ double sums[THREADS];
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += THREADS) sum += part[i];
    double norm = sqrt(block_sum(sum, sums));
    if (threadIdx.x == 0) clip[0] = norm > limit ? limit / norm : 1;
}
