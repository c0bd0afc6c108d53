// The activations by number, as npdvae.ops.activations; each derivative reads the output.
#define RELU 0
#define LEAKY_RELU 1
#define TANH 2
#define IDENTITY 3

__device__ __forceinline__ real activation(real x, int kind) {
    if (kind == RELU) return x < 0 ? (real)0 : x;                   // NaN stays NaN
    if (kind == LEAKY_RELU) return x > 0 ? x : x * (real)0.01;
    if (kind == TANH) return tanh(x);
    return x;
}

__device__ __forceinline__ real activation_backward(real dy, real y, int kind) {
    if (kind == RELU) return y > 0 ? dy : (real)0;
    if (kind == LEAKY_RELU) return y > 0 ? dy : dy * (real)0.01;
    if (kind == TANH) return dy * (1 - y * y);
    return dy;
}
