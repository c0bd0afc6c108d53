#include "common.cuh"
#include "philox.cuh"

// u [S, B, D, N], as npdvae.rng.uniform: word s N + n of the blocks that start at `draw`, for each (example, latent).
KERNEL philox_uniform(real* u, unsigned seed, unsigned stream, unsigned step, unsigned example, unsigned draw, int S,
                      int B, int D, int N) {
    unsigned words = (unsigned)S * N, blocks = (words + 3) / 4;
    GRID_STRIDE(i, B * D * blocks) {
        unsigned block = i % blocks, d = i / blocks % D, b = i / blocks / D;
        Words four = philox(step, example + b, d, draw + block, seed, stream);
        for (int j = 0; j < 4; j++) {
            unsigned word = block * 4 + j;
            if (word < words) u[(((long long)(word / N) * B + b) * D + d) * N + word % N] = to_uniform(pick(four, j));
        }
    }
}
