// Runs unmodified CUDA C on the CPU: one fiber per CUDA thread, one block after another; barriers and shuffles switch
// fibers. Not covered: PTX, matrix instructions, cooperative groups, dynamic shared memory; and no hint of speed.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("cuda_shared")))
extern "C" char __start_cuda_shared[] __attribute__((weak));
extern "C" char __stop_cuda_shared[] __attribute__((weak));

struct dim3 { unsigned x, y, z; };

// ---- fibers -------------------------------------------------------------------------------------------------------
#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch,.-emulator_switch
)");
namespace emulator {
struct Context { void* sp; };
inline void prepare(Context& c, char* stack, size_t size, void (*entry)()) {
    void** sp = (void**)((uintptr_t)(stack + size) & ~(uintptr_t)15);
    *--sp = nullptr;
    *--sp = (void*)entry;
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    c.sp = sp;
}
inline void jump(Context& from, Context& to) { emulator_switch(&from.sp, to.sp); }
}  // namespace emulator
#else
#include <ucontext.h>
namespace emulator {
struct Context { ucontext_t u; };
inline void prepare(Context& c, char* stack, size_t size, void (*entry)()) {
    getcontext(&c.u);
    c.u.uc_stack.ss_sp = stack;
    c.u.uc_stack.ss_size = size;
    c.u.uc_link = nullptr;
    makecontext(&c.u, entry, 0);
}
inline void jump(Context& from, Context& to) { swapcontext(&from.u, &to.u); }
}  // namespace emulator
#endif

// ---- threads, warps, blocks ---------------------------------------------------------------------------------------
namespace emulator {
const size_t STACK = 128 * 1024;
enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, EXITED };
struct Thread {
    Context context;
    char* stack;
    State state;
    int line;                    // of the barrier it waits at
    unsigned mask;               // of the warp barrier it waits at
    dim3 index;
    uint64_t slot;               // what it offers to the lanes of its warp
};
static Thread threads[1024];
static Context scheduler;
static Thread* self;
static unsigned count;
static dim3 block_size, grid_size, block_index;
static void (*kernel)(void**);
static void** arguments;
static char fault[256];

#if defined(__SANITIZE_ADDRESS__)
static const void* host_stack;
static size_t host_size;
#endif

inline void suspend(bool last = false) {
    Thread* me = self;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(last ? nullptr : &fake, host_stack, host_size);
#endif
    jump(me->context, scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &host_stack, &host_size);
#endif
    (void)last;
}

inline void entry() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_size);
#endif
    kernel(arguments);
    self->state = EXITED;
    suspend(true);
}

inline void resume(Thread& t) {
    self = &t;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, t.stack, STACK);
#endif
    jump(scheduler, t.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void block_barrier(int line) {
    self->state = AT_BLOCK_BARRIER;
    self->line = line;
    suspend();
}

inline void warp_barrier(unsigned mask, int line) {
    self->state = AT_WARP_BARRIER;
    self->line = line;
    self->mask = mask;
    suspend();
}

inline unsigned lane() { return (unsigned)(self - threads) & 31; }
inline Thread* warp() { return threads + ((self - threads) & ~31); }

// Release the lanes that wait for each other; false where none can go on.
inline bool release_warp(unsigned first) {
    bool released = false;
    unsigned size = count - first < 32 ? count - first : 32;
    for (unsigned i = 0; i < size; i++) {
        Thread& t = threads[first + i];
        if (t.state != AT_WARP_BARRIER) continue;
        bool all = true;
        for (unsigned j = 0; j < 32; j++) {
            if (!(t.mask >> j & 1)) continue;
            if (j >= size || threads[first + j].state == EXITED) {
                snprintf(fault, sizeof fault, "line %d: the mask %08x names lane %u, which has exited or never was",
                         t.line, t.mask, j);
                return false;
            }
            Thread& other = threads[first + j];
            all = other.state == AT_WARP_BARRIER && other.mask == t.mask && other.line == t.line;
            if (!all) break;
        }
        if (!(t.mask >> i & 1)) {
            snprintf(fault, sizeof fault, "line %d: lane %u calls with a mask %08x that leaves it out", t.line, i, t.mask);
            return false;
        }
        if (!all) continue;
        unsigned mask = t.mask;
        for (unsigned j = 0; j < 32; j++)
            if (mask >> j & 1) threads[first + j].state = READY;
        released = true;
    }
    return released;
}

// Run every lane of a warp that can run up to its next barrier; false where nothing moved.
inline bool run_warp(unsigned first, bool reversed) {
    bool moved = false;
    unsigned size = count - first < 32 ? count - first : 32;
    for (unsigned i = 0; i < size; i++) {
        Thread& t = threads[first + (reversed ? size - 1 - i : i)];
        if (t.state != READY) continue;
        resume(t);
        moved = true;
    }
    return release_warp(first) || moved;
}

inline bool release_block() {
    int line = -1;
    for (unsigned i = 0; i < count; i++) {
        if (threads[i].state == EXITED) continue;
        if (threads[i].state != AT_BLOCK_BARRIER) return false;
        if (line >= 0 && threads[i].line != line) {
            snprintf(fault, sizeof fault, "threads of one block wait at different barriers, lines %d and %d", line,
                     threads[i].line);
            return false;
        }
        line = threads[i].line;
    }
    for (unsigned i = 0; i < count; i++)
        if (threads[i].state != EXITED) threads[i].state = READY;
    return line >= 0;
}

// schedule: bit 0 lanes and warps from the last to the first, bit 1 each warp as far as it can go before the next.
inline void run_block(int schedule) {
    bool reversed = schedule & 1, greedy = schedule & 2;
    if (__start_cuda_shared) memset(__start_cuda_shared, 0xff, __stop_cuda_shared - __start_cuda_shared);
    for (unsigned i = 0; i < count; i++) {
        Thread& t = threads[i];
        t.state = READY;
        t.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        prepare(t.context, t.stack, STACK, entry);
    }
    unsigned warps = (count + 31) / 32;
    while (!fault[0]) {
        bool moved = false;
        for (unsigned w = 0; w < warps && !fault[0]; w++) {
            unsigned first = 32 * (reversed ? warps - 1 - w : w);
            if (greedy)
                while (!fault[0] && run_warp(first, reversed)) moved = true;
            else
                moved |= run_warp(first, reversed);
        }
        unsigned exited = 0;
        for (unsigned i = 0; i < count; i++) exited += threads[i].state == EXITED;
        if (exited == count) return;
        if (!release_block() && !moved && !fault[0])
            for (unsigned i = 0; i < count; i++)
                if (threads[i].state == AT_BLOCK_BARRIER || threads[i].state == AT_WARP_BARRIER)
                    snprintf(fault, sizeof fault, "deadlock: a thread waits at line %d for others that never come",
                             threads[i].line);
    }
}

// Denormal floats count as zeros, as under -ftz=true, while this lives. (Of a double they would not on a device.)
struct Flush {
#if defined(__SSE2__)
    unsigned before = __builtin_ia32_stmxcsr();
    explicit Flush(bool on) { if (on) __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~Flush() { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
    uint64_t before;
    explicit Flush(bool on) {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        if (on) asm volatile("msr fpcr, %0" : : "r"(before | (uint64_t)1 << 24));
    }
    ~Flush() { asm volatile("msr fpcr, %0" : : "r"(before)); }
#else
    explicit Flush(bool) {}
#endif
};

inline void run_grid(int schedule) {
    unsigned last = schedule & 1;                                   // reversed schedules take the blocks from the end
    for (unsigned z = 0; z < grid_size.z; z++)
        for (unsigned y = 0; y < grid_size.y; y++)
            for (unsigned x = 0; x < grid_size.x && !fault[0]; x++) {
                block_index = {last ? grid_size.x - 1 - x : x, last ? grid_size.y - 1 - y : y,
                               last ? grid_size.z - 1 - z : z};
                run_block(schedule);
            }
}

static sigjmp_buf before_grid;
inline void wild(int) { siglongjmp(before_grid, 1); }

// Run the grid; an access to memory that nobody has becomes a fault, where AddressSanitizer is not there to name it.
inline void run_guarded(int schedule) {
#if defined(__SANITIZE_ADDRESS__)
    run_grid(schedule);
#else
    struct sigaction ours = {}, before[2];
    ours.sa_handler = wild;
    sigaction(SIGSEGV, &ours, before);
    sigaction(SIGBUS, &ours, before + 1);
    if (sigsetjmp(before_grid, 1))
        snprintf(fault, sizeof fault, "an address that is nobody's, block (%u, %u, %u), thread (%u, %u, %u)",
                 block_index.x, block_index.y, block_index.z, self->index.x, self->index.y, self->index.z);
    else
        run_grid(schedule);
    sigaction(SIGSEGV, before, nullptr);
    sigaction(SIGBUS, before + 1, nullptr);
#endif
}

// Run a grid; nullptr, or what went wrong.
inline const char* launch(const unsigned* grid, const unsigned* block, int schedule, bool flush, void (*body)(void**),
                          void** a) {
    block_size = {block[0], block[1], block[2]};
    grid_size = {grid[0], grid[1], grid[2]};
    count = block[0] * block[1] * block[2];
    fault[0] = 0;
    if (count < 1 || count > 1024) return "a block needs 1 to 1024 threads";
    if (grid[1] > 65535 || grid[2] > 65535 || grid[0] > 2147483647u || !grid[0] || !grid[1] || !grid[2])
        return "a grid needs 1 to 2147483647, 65535 and 65535 blocks";
    for (unsigned i = 0; i < count; i++)
        if (!threads[i].stack)
            threads[i].stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    kernel = body;
    arguments = a;
    Flush guard(flush);
    run_guarded(schedule);
    return fault[0] ? fault : nullptr;
}

template <class T>
T exchange(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 4 or 8 bytes");
    self->slot = 0;
    memcpy(&self->slot, &value, sizeof(T));
    warp_barrier(mask, line);
    T result = value;
    if (mask >> source & 1)
        memcpy(&result, &warp()[source].slot, sizeof(T));
    else
        memset(&result, 0xff, sizeof(T));                           // undefined on the device
    warp_barrier(mask, line);
    return result;
}

template <class T>
T shuffle(unsigned mask, T v, int source, int width, int line) {
    int base = (int)lane() & ~(width - 1);
    return exchange(mask, v, base | (source & (width - 1)), line);
}
template <class T>
T shuffle_xor(unsigned mask, T v, int bits, int width, int line) {
    int me = lane(), other = me ^ bits;
    return exchange(mask, v, other >= (me & ~(width - 1)) + width ? me : other, line);
}
template <class T>
T shuffle_up(unsigned mask, T v, int delta, int width, int line) {
    int me = lane();
    return exchange(mask, v, (me & (width - 1)) >= delta ? me - delta : me, line);
}
template <class T>
T shuffle_down(unsigned mask, T v, int delta, int width, int line) {
    int me = lane();
    return exchange(mask, v, (me & (width - 1)) + delta < width ? me + delta : me, line);
}
}  // namespace emulator

#define threadIdx (emulator::self->index)
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_size)
#define gridDim (emulator::grid_size)
#define __syncthreads() emulator::block_barrier(__LINE__)
#define __syncwarp() emulator::warp_barrier(0xffffffffu, __LINE__)
#define __shfl_sync(mask, v, source, width) emulator::shuffle(mask, v, source, width, __LINE__)
#define __shfl_xor_sync(mask, v, bits, width) emulator::shuffle_xor(mask, v, bits, width, __LINE__)
#define __shfl_up_sync(mask, v, delta, width) emulator::shuffle_up(mask, v, delta, width, __LINE__)
#define __shfl_down_sync(mask, v, delta, width) emulator::shuffle_down(mask, v, delta, width, __LINE__)

static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }
template <class T> static inline T cospi(T x) { return (T)cos(3.14159265358979323846 * x); }
