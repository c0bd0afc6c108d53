// What every kernel shares: the float type, grid-stride loops, lanes that share a row, sums in a fixed order.
#define THREADS 256
#define ALL 0xffffffffu

typedef REAL real;

// Without the second number, ptxas spills registers to fit more blocks on a multiprocessor.
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 1)

// An array has at most 2^31 - 1 entries where a kernel divides its index: 64-bit division is what takes the time.
#define GRID_STRIDE(i, n)                                                      \
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(n); \
         i += gridDim.x * blockDim.x)

// Rows of K entries, each shared by `width` neighbouring lanes. All lanes of a warp stay in the loop to the end, so
// that shuffles are whole: a group past the last row repeats that row and is not `live`, so it must not write.
struct RowLoop {
    int width, lane, offset, rows;
    long long first, step, row;
    bool live;

    __device__ RowLoop(int rows, int K) : rows(rows) {
        width = 1;
        while (width < K && width < 32) width *= 2;
        lane = threadIdx.x & (width - 1);
        offset = (threadIdx.x & 31) / width;
        first = (blockIdx.x * blockDim.x + (threadIdx.x & ~31u)) / width;
        step = gridDim.x * blockDim.x / width;
    }
    __device__ bool more() {
        row = first + offset;
        live = row < rows;
        if (!live) row = rows - 1;
        return first < rows;
    }
    __device__ void next() { first += step; }

    // Sum, maximum and running sum over the lanes of a row; the first two are the same in all of them, to the bit.
    __device__ real sum(real v) const {
        for (int bits = width / 2; bits; bits /= 2) v += __shfl_xor_sync(ALL, v, bits, 32);
        return v;
    }
    __device__ int sum(int v) const {
        for (int bits = width / 2; bits; bits /= 2) v += __shfl_xor_sync(ALL, v, bits, 32);
        return v;
    }
    __device__ int largest(int v) const {
        for (int bits = width / 2; bits; bits /= 2) v = max(v, __shfl_xor_sync(ALL, v, bits, 32));
        return v;
    }
    __device__ real largest(real v) const {
        for (int bits = width / 2; bits; bits /= 2) {
            real other = __shfl_xor_sync(ALL, v, bits, 32);
            v = other > v ? other : v;
        }
        return v;
    }
    __device__ real running(real v) const {
        for (int delta = 1; delta < width; delta *= 2) {
            real below = __shfl_up_sync(ALL, v, delta, width);
            if (lane >= delta) v += below;
        }
        return v;
    }
    __device__ real from_last(real v) const { return __shfl_sync(ALL, v, width - 1, width); }

    __device__ int chunks(int K) const { return (K + width - 1) / width; }     // the same for all lanes
};

// The categories of a row that are this lane's. Unrolled loops cost registers, and rows are short.
#define CATEGORIES(k, r, K) _Pragma("unroll 1") for (int k = (r).lane; k < (K); k += (r).width)

// Largest entry of a row, and log sum exp of the rest: log softmax is (x_k - top) - log_sum. value(k) gives x_k.
struct LogSoftmax {
    real top, log_sum, inverse;

    template <class V>
    __device__ LogSoftmax(V value, int K, const RowLoop& r) {
        real best = value(0);
        CATEGORIES(k, r, K) best = value(k) > best ? value(k) : best;
        top = r.largest(best);
        real part = 0;
        CATEGORIES(k, r, K) part += exp(value(k) - top);
        real sum = r.sum(part);
        log_sum = log(sum);
        inverse = 1 / sum;
    }
    __device__ real log_p(real x) const { return (x - top) - log_sum; }
    __device__ real p(real x) const { return exp(x - top) * inverse; }
};

// The entries of a row in memory, for the templates here.
struct Row {
    const real* x;
    __device__ real operator()(int k) const { return x[k]; }
};

// Sum over a block of THREADS threads, by a tree of fixed shape; in thread 0. `part` is shared, THREADS long.
template <class T>
__device__ T block_sum(T v, T* part) {
    int t = threadIdx.x;
    part[t] = v;
    __syncthreads();
    for (int half = THREADS / 2; half; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    T total = part[0];
    __syncthreads();
    return total;
}
