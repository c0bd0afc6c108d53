// Philox4x32-10 (Salmon et al. 2011), the same numbers as npdvae.rng.
struct Words { unsigned w[4]; };

__device__ __forceinline__ Words philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0, unsigned k1) {
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Inside (0, 1): (k + 1/2) 2^-23, exact in float32.
__device__ __forceinline__ real to_uniform(unsigned word) {
    return ((real)(word >> 9) + (real)0.5) * (real)1.1920928955078125e-07;
}

// One word of four without an array in local memory.
__device__ __forceinline__ unsigned pick(const Words& b, int i) {
    return i == 0 ? b.w[0] : i == 1 ? b.w[1] : i == 2 ? b.w[2] : b.w[3];
}

// Uniform number `word` of one (step, example, latent) of a stream.
__device__ __forceinline__ real uniform(unsigned seed, unsigned stream, unsigned step, unsigned example,
                                        unsigned latent, unsigned draw, long long word) {
    return to_uniform(pick(philox(step, example, latent, draw + (unsigned)(word / 4), seed, stream), (int)(word % 4)));
}
