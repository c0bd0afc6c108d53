// Kernels with planted faults, each guarded by a macro, to show that the emulator bites.
#define SIZE 128

// Sum of a block by a tree in shared memory. NO_BARRIER: the first barrier is missing.
extern "C" __global__ void __launch_bounds__(SIZE) block_sum(const float* x, float* total) {
    __shared__ float part[SIZE];
    int t = threadIdx.x;
    part[t] = x[blockIdx.x * SIZE + t];
#ifndef NO_BARRIER
    __syncthreads();
#endif
    for (int half = SIZE / 2; half; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    if (t == 0) total[blockIdx.x] = part[0];
}

// Two broadcasts through one shared word. WRITE_AFTER_READ: the second may overwrite before all have read the first.
extern "C" __global__ void __launch_bounds__(SIZE) broadcast_twice(const float* x, float* y) {
    __shared__ float word;
    int t = threadIdx.x;
    if (t == 0) word = x[0];
    __syncthreads();
    float first = word;
#ifndef WRITE_AFTER_READ
    __syncthreads();
#endif
    if (t == SIZE - 1) word = x[1];
    __syncthreads();
    y[t] = first + 10 * word;
}

// Shift by one. OUT_OF_BOUNDS: the guard is off by one.
extern "C" __global__ void __launch_bounds__(SIZE) shift(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef OUT_OF_BOUNDS
    if (i < n) y[i] = x[i + 1];
#else
    if (i < n - 1) y[i] = x[i + 1];
#endif
}

// WRITE_OUT_OF_BOUNDS: the guard lets one thread too many write.
extern "C" __global__ void __launch_bounds__(SIZE) fill(float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef WRITE_OUT_OF_BOUNDS
    if (i <= n) y[i] = 1;
#else
    if (i < n) y[i] = 1;
#endif
}

// Sum of a warp. EXITED_LANE: lanes past n have left, but the mask names them.
extern "C" __global__ void __launch_bounds__(SIZE) warp_sum(const float* x, float* total, int n) {
    int t = threadIdx.x;
#ifdef EXITED_LANE
    if (t >= n) return;
    float v = x[t];
#else
    float v = t < n ? x[t] : 0;
#endif
    for (int bits = 16; bits; bits /= 2) v += __shfl_xor_sync(0xffffffffu, v, bits, 32);
    if (t == 0) *total = v;
}

// DIVERGENT: the two halves of the block wait at different barriers; SOME_WAIT: half of a warp shuffles, half is done.
extern "C" __global__ void __launch_bounds__(SIZE) swap_halves(const float* x, float* y) {
    __shared__ float part[SIZE];
    int t = threadIdx.x;
    part[t] = x[t];
#ifdef DIVERGENT
    if (t < SIZE / 2) {
        __syncthreads();
    } else {
        __syncthreads();
    }
#else
    __syncthreads();
#endif
    y[t] = part[(t + SIZE / 2) % SIZE];
}

// UNSET: shared memory is read before anything was written, which the first block on a real device may survive.
extern "C" __global__ void __launch_bounds__(SIZE) count_up(float* y) {
    __shared__ float sum[SIZE];
#ifndef UNSET
    sum[threadIdx.x] = 0;
#endif
    sum[threadIdx.x] += 1;
    y[blockIdx.x * SIZE + threadIdx.x] = sum[threadIdx.x];
}

// Gather by index: what a wrong index reads may be anybody's memory, or nobody's.
extern "C" __global__ void __launch_bounds__(SIZE) gather(const float* x, const long long* order, float* y) {
    y[threadIdx.x] = x[order[threadIdx.x]];
}
