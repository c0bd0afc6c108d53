#include "common.cuh"
#include "philox.cuh"
#include "schedule.cuh"

#define GREY 0
#define DRAWN 1
#define THRESHOLDED 2

// Targets x [B, P] of the batch that clock points at: rows order[i batch + b] of the resident images, i counting
// the batches of this run; row b where order is null. mode: GREY p itself, DRAWN 1 where u < p in float32, u as
// npdvae.data.binarize has it (row b is example + b, draw the counter's last word), THRESHOLDED 1 where p > 1/2.
template <class T>
__device__ void gather(const T* images, const long long* order, const long long* clock, real* x, real levels,
                       int mode, unsigned stream, unsigned example, unsigned draw, int batch, int B, int P) {
    int quads = (P + 3) / 4;
    long long first = clock[BATCH] * batch;
    unsigned step = (unsigned)clock[STEP], seed = (unsigned)clock[SEED];
    GRID_STRIDE(i, B * quads) {
        int b = i / quads, j0 = i % quads * 4;
        const T* row = images + (order ? order[first + b] : (long long)b) * P;
        float p[4];
        bool grey = false;
        for (int j = 0; j < 4; j++) {
            real value = j0 + j < P ? (real)row[j0 + j] / levels : (real)0;
            p[j] = (float)value;
            grey |= p[j] > 0 && p[j] < 1;
            if (mode == THRESHOLDED) value = value > (real)0.5 ? (real)1 : (real)0;
            if (mode != DRAWN && j0 + j < P) x[(long long)b * P + j0 + j] = value;
        }
        if (mode != DRAWN) continue;
        Words words = {{0, 0, 0, 0}};                               // only grey pixels need their numbers
        if (grey) words = philox(step, example + b, (unsigned)(j0 / 4), draw, seed, stream);
        for (int j = 0; j < 4; j++) {
            float u = ((float)(words.w[j] >> 9) + 0.5f) * 1.1920928955078125e-07f;
            if (j0 + j < P) x[(long long)b * P + j0 + j] = p[j] >= 1 || u < p[j] ? (real)1 : (real)0;
        }
    }
}

KERNEL binarize_bytes(const unsigned char* images, const long long* order, const long long* clock, real* x,
                      real levels, int mode, unsigned stream, unsigned example, unsigned draw, int batch, int B,
                      int P) {
    gather(images, order, clock, x, levels, mode, stream, example, draw, batch, B, P);
}

KERNEL binarize_floats(const float* images, const long long* order, const long long* clock, real* x, real levels,
                       int mode, unsigned stream, unsigned example, unsigned draw, int batch, int B, int P) {
    gather(images, order, clock, x, levels, mode, stream, example, draw, batch, B, P);
}
