"""A thin stand-in for CuPy without a GPU: arrays in host memory, launches mapped to the emulator, cuBLAS to NumPy.

As strict as CuPy where that differs from NumPy: no implicit conversion to NumPy or mixing with its arrays, reductions
give arrays, only functions that CuPy has, no allocation, array function or synchronisation while a stream is captured.
Every array lies between guard bytes that each launch checks; fresh memory is NaN; launches take the schedules in turn.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import types
import weakref

import numpy as np

from tests.cuda import cupy_api, emulator

__version__ = "14.2.0 (stand-in)"
GUARD = 256                                     # bytes on either side of an array
PATTERN = 0xCB
KEYWORDS = cupy_api.listed()
NAMES = frozenset(name for name in KEYWORDS if "." not in name)
METHODS = frozenset(name.removeprefix("ndarray.") for name in KEYWORDS if name.startswith("ndarray."))
limit_bytes = 2 ** 40                           # tests of running out of memory lower it
state = types.SimpleNamespace(capturing=None, launches=0, used=0, stream=None, schedule=0, fixed=None, poisoned=[],
                              lazy=True, unfinished=weakref.WeakSet(), handles=set(), broken=None)


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class NVRTCError(RuntimeError):
    pass


class CompileException(Exception):
    pass


def work(stream=None):
    """Note work on a stream (the current one); a Fault where null and non-blocking streams race.

    They do not wait for each other: one must be synchronised, or an event of its be waited for, before work on the
    other begins.
    """
    stream = stream or state.stream
    for other in list(state.unfinished):
        if (other.ptr == 0) != (stream.ptr == 0) and stream._after.get(other) != other._count:
            names = ("null", "non-blocking") if other.ptr == 0 else ("non-blocking", "null")
            raise emulator.Fault("{} stream has unfinished work, for which the {} stream does not wait".format(*names))
    stream._count += 1
    state.unfinished.add(stream)


def refuse_capture(what):
    """What a captured stream cannot do."""
    if state.capturing is not None:
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a stream is captured")


def poison(address, size):
    """Tell AddressSanitizer, which this process must have been started with, that this memory is not to be touched."""
    ctypes.CDLL(None).__asan_poison_memory_region(address, size)


def allocate(shape, dtype):
    """Memory between guards, all of it NaN or -1: (array, its whole block)."""
    refuse_capture("allocation")
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if state.used + size > limit_bytes:
        raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {state.used:,} bytes).")
    block = np.full(size + 2 * GUARD + 64, PATTERN, np.uint8)
    start = GUARD + (-(block.ctypes.data + GUARD)) % 64
    whole = block[start - GUARD:start + size + GUARD]
    whole[GUARD:GUARD + size] = 0xff
    if emulator.SANITISED in emulator.default_flags():              # reads of the guards are then faults too
        state.poisoned.append(block)                                # never to be used again
        for at in (whole.ctypes.data, whole.ctypes.data + GUARD + size):
            poison(ctypes.c_void_p(at), ctypes.c_size_t(GUARD))
    return whole[GUARD:GUARD + size].view(dtype).reshape(shape), whole


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the device."""

    __slots__ = ("a", "whole")
    __array_priority__ = 100

    def __init__(self, a, whole):
        self.a, self.whole = a, whole

    dtype = property(lambda self: self.a.dtype)
    shape = property(lambda self: self.a.shape)
    ndim = property(lambda self: self.a.ndim)
    size = property(lambda self: self.a.size)
    nbytes = property(lambda self: self.a.nbytes)
    itemsize = property(lambda self: self.a.itemsize)
    strides = property(lambda self: self.a.strides)
    flags = property(lambda self: types.SimpleNamespace(c_contiguous=self.a.flags.c_contiguous))
    T = property(lambda self: wrap(self.a.T, self))
    real = property(lambda self: wrap(self.a.real, self))

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.a.ctypes.data)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if ufunc.__name__ in KEYWORDS and method == "__call__":
            known(ufunc.__name__, options)
        return apply(getattr(ufunc, method), *inputs, **options)

    def __array_function__(self, function, _, arguments, options):
        if function.__name__ not in NAMES:
            raise TypeError(f"no implementation found for numpy.{function.__name__} on cupy.ndarray")
        return apply(function, *arguments, **known(function.__name__, options))

    def __getattr__(self, name):
        if name not in METHODS:
            raise AttributeError(f"cupy.ndarray has no attribute {name!r}")
        return lambda *arguments, **options: apply(getattr(np.ndarray, name), self, *arguments,
                                                   **known(f"ndarray.{name}", options))

    def __len__(self):
        return len(self.a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if all(isinstance(p, slice | int | np.integer) or p is None or p is Ellipsis for p in parts):
            parts = parts if Ellipsis in parts else (*parts, ...)
            return ndarray(self.a[parts], self.whole)       # a view, free even while a stream is captured
        return apply(np.ndarray.__getitem__, self, index)

    def reshape(self, *shape, order="C"):
        view = self.a.reshape(*shape)
        return ndarray(view, self.whole) if np.may_share_memory(view, self.a) or not view.size else wrap(view)

    def __setitem__(self, index, value):
        apply(np.ndarray.__setitem__, self, index, value)

    def get(self, stream=None, order="C", out=None):
        refuse_capture("copying to the host")
        work()
        state.stream.synchronize()
        return self.a.copy(order)

    def set(self, arr, stream=None):
        refuse_capture("copying from the host")
        if not isinstance(arr, np.ndarray) or arr.shape != self.shape or arr.dtype != self.dtype:
            raise TypeError("set takes a NumPy array of the same shape and type")
        work()
        self.a[...] = arr

    def item(self):
        return self.get().item()

    def fill(self, value):
        refuse_capture("fill")
        work()
        self.a.fill(0 if value == 0 and self.a.flags.c_contiguous else value)   # memset: -0.0 becomes 0.0

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    __index__ = __int__

    def __bool__(self):
        return bool(self.item())


def unwrap(x):
    """The host memory behind arguments; NumPy arrays among them are refused, as CuPy does."""
    if isinstance(x, ndarray):
        return x.a
    if isinstance(x, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, list | tuple):
        return type(x)(map(unwrap, x)) if not hasattr(x, "_fields") else x
    return x


def wrap(x, owner=None):
    """Host results as arrays of the device; views keep the block that they look into."""
    if isinstance(x, tuple | list) and not isinstance(x, str):
        return type(x)(wrap(v, owner) for v in x)
    if not isinstance(x, np.ndarray | np.generic):
        return x
    x = np.asarray(x)
    if owner is not None and x.size and np.may_share_memory(x, owner.a):
        return ndarray(x, owner.whole)
    work()
    fresh = empty_like(x)
    fresh.a[...] = x
    return fresh


def known(name, options):
    """Keyword arguments, all of which CuPy's function of that name takes too."""
    if KEYWORDS[name] is not None and (more := set(options) - set(KEYWORDS[name])):
        raise TypeError(f"cupy.{name} got an unexpected keyword argument {sorted(more)[0]!r}")
    return options


def apply(function, *arguments, **options):
    """A NumPy function on arrays of the device."""
    refuse_capture(getattr(function, "__name__", "an array function"))
    owner = next((a for a in arguments if isinstance(a, ndarray)), None)
    return wrap(function(*map(unwrap, arguments), **{k: unwrap(v) for k, v in options.items()}), owner)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    value = getattr(np, name, None)
    if isinstance(value, float) or name in ("newaxis", "dtype", "finfo", "iinfo"):
        return value
    if isinstance(value, type) and issubclass(value, np.generic):
        return value
    if name not in NAMES:
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    return lambda *arguments, **options: apply(value, *arguments, **known(name, options))


def empty(shape, dtype=float):
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    return ndarray(*allocate(shape, dtype))


def empty_like(prototype, dtype=None):
    """C order, or that of a prototype in Fortran order: order="K", CuPy's default wherever it copies."""
    a, dtype = unwrap(prototype) if isinstance(prototype, ndarray) else prototype, dtype or prototype.dtype
    if a.flags.f_contiguous and not a.flags.c_contiguous:
        turned, whole = allocate(a.shape[::-1], dtype)
        return ndarray(turned.T, whole)
    return empty(a.shape, dtype)


def asarray(a, dtype=None):
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    if isinstance(a, list | tuple):
        a = np.asarray([unwrap(v) for v in a], dtype)
    refuse_capture("copying from the host")
    return wrap(np.asarray(a, dtype))


def array(obj, dtype=None):
    return asarray(obj.copy() if isinstance(obj, ndarray) else obj, dtype)


def broadcast_to(array, shape):
    if not isinstance(shape, tuple | list):
        raise TypeError(f"broadcast_to: expected a tuple of lengths, got {type(shape).__name__}")
    return apply(np.broadcast_to, array, shape)


def asnumpy(a, stream=None):
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


# ---- kernels --------------------------------------------------------------------------------------------------------

class RawModule:
    """A source compiled for the emulator."""

    def __init__(self, *, code, options=(), backend="nvrtc", name_expressions=None):
        refuse_capture("loading a module")
        assert backend == "nvrtc" and isinstance(options, tuple)
        self.code = code

    @functools.cached_property
    def _compiled(self):
        """The library; CuPy too compiles when the first function is asked for."""
        try:
            return emulator.build(self.code)
        except emulator.Refused as error:
            raise CompileException(str(error)) from None

    def get_function(self, name):
        refuse_capture("loading a module")
        if name not in self._compiled.names:
            raise CUDADriverError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")

        def call(grid, block, args, *, shared_mem=0):
            assert isinstance(grid, tuple) and isinstance(block, tuple) and isinstance(args, tuple)
            run = Launch(self._compiled, name, grid, block, args)
            state.launches += 1
            record(run)
        return call


class Launch:
    """One launch with its arguments as they are now; addresses and values, no more, go into a graph."""

    def __init__(self, library, name, grid, block, arguments):
        self.compiled, self.name, self.grid, self.block = library, name, grid, block
        self.owners = [a for a in arguments if isinstance(a, ndarray)]
        for code, a in zip(library.codes[name], arguments):
            emulator.word(a.a if isinstance(a, ndarray) else a, code, name)
        self.arguments = [np.uintp(a.a.ctypes.data) if isinstance(a, ndarray) else a for a in arguments]

    def __call__(self):
        state.schedule = (state.schedule + 1) % 4 if state.fixed is None else state.fixed
        self.compiled.run(self.name, self.grid, self.block, self.arguments, state.schedule)
        for a in self.owners:
            if not ((a.whole[:GUARD] == PATTERN).all() and (a.whole[-GUARD:] == PATTERN).all()):
                raise emulator.Fault(f"{self.name} wrote outside an array of shape {a.shape}")


def record(run):
    """Do what a stream is asked to do, or put it into the graph that is being captured."""
    if state.capturing is None:
        work()
        state.stream._do(run)
        return
    if state.stream not in state.captured:
        raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: work on a stream that is not being captured")
    state.capturing.append((state.stream, run))


class Graph:
    """What was captured: work by stream, and the waits between streams."""

    def __init__(self, work, /):
        self.work = work

    def launch(self, stream=None):
        work(stream)
        for where, run in self.work:
            where._do(run)


class Event:
    """A point in the work of a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.stream, self._count, self.timed, self.waited = None, 0, not disable_timing, False

    def record(self, stream=None):
        self.stream, self.waited = stream or state.stream, False
        self._count = self.stream._count

    def synchronize(self):
        refuse_capture("synchronising")
        self.waited = True
        self.stream.synchronize()


def get_elapsed_time(start_event, end_event):
    """Milliseconds, a made-up figure; refused where a device could give none, or none of any meaning."""
    if not (start_event.timed and end_event.timed and start_event.stream and end_event.stream):
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    if not end_event.waited:
        raise CUDARuntimeError("cudaErrorNotReady: device not ready")
    if start_event.stream is not end_event.stream:
        raise emulator.Fault("events on different streams do not time what lies between")
    return 1.0


class Stream:
    """A stream whose work is done at once; one that begins by waiting for another puts its own off until waited for.

    That is the latest a device may do it: what reads or overwrites too early, for want of a wait, then shows.
    """

    _made = 0

    def __init__(self, null=False, non_blocking=False):
        Stream._made += 1
        self.ptr = 0 if null else 1000 + Stream._made
        self._previous, self._late, self._begun, self._pending = [], False, False, []
        self._count, self._after = 0, weakref.WeakKeyDictionary()     # pieces of work; how many it has waited for

    def __enter__(self):
        self._previous.append(state.stream)
        state.stream = self
        return self

    def __exit__(self, *_):
        state.stream = self._previous.pop()

    def _do(self, run):
        self._begun = True
        if self._late:
            self._pending.append(run)
        else:
            run()

    def _finish(self):
        """Do all that was put off."""
        pending, self._pending = self._pending, []
        for run in pending:
            run()

    def wait_event(self, event):
        assert event.stream is not None, "waiting for an event that was never recorded"
        if not self._begun:
            self._late = state.lazy
        if state.capturing is None:
            event.stream._finish()
            self._after[event.stream] = event._count
            return
        assert event.stream in state.captured
        state.captured.add(self)
        state.unjoined.discard(event.stream)
        if self._late:
            state.unjoined.add(self)
        state.capturing.append((Immediately, event.stream._finish))

    def begin_capture(self, mode=None):
        assert self.ptr, "the null stream cannot be captured"
        state.capturing, state.captured, state.unjoined = [], {self}, set()

    def end_capture(self):
        recorded, state.capturing = state.capturing, None
        broken, state.broken = state.broken, None
        if broken:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureInvalidated: {broken} while a stream is captured")
        if state.unjoined:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: a stream that was forked was not joined")
        return Graph(recorded)

    def synchronize(self):
        refuse_capture("synchronising")
        self._done()

    def _done(self):
        """All work is over, here and on streams whose last work this one has waited for."""
        self._finish()
        state.unfinished.discard(self)
        for other, count in list(self._after.items()):
            if other._count == count and other in state.unfinished:
                other._done()


class Immediately:
    """Where waits are done in a graph."""

    @staticmethod
    def _do(run):
        run()


state.stream = Stream.null = Stream(null=True)


class Device:
    compute_capability = "90"

    def __init__(self, device=None):
        self.id = device or 0

    def use(self):
        pass

    def synchronize(self):
        refuse_capture("synchronising")
        for stream in list(state.unfinished):
            stream.synchronize()


class MemoryPool:
    def used_bytes(self):
        return state.used

    def total_bytes(self):
        return state.used


def get_default_memory_pool():
    return MemoryPool()


runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000, memGetInfo=lambda: (2 ** 36, 2 ** 37),
    getDeviceProperties=lambda device: {"name": b"emulated device", "multiProcessorCount": 132})
cuda = types.SimpleNamespace(runtime=runtime, memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
                             driver=types.SimpleNamespace(CUDADriverError=CUDADriverError),
                             nvrtc=types.SimpleNamespace(NVRTCError=NVRTCError),
                             compiler=types.SimpleNamespace(CompileException=CompileException),
                             Stream=Stream, Graph=Graph, Event=Event, Device=Device,
                             get_current_stream=lambda: state.stream, get_elapsed_time=get_elapsed_time)


# ---- cuBLAS ---------------------------------------------------------------------------------------------------------

def rounded_to_tf32(x):
    """float32 with 10 bits of mantissa behind the point, as tensor cores read it under CUBLAS_TF32_TENSOR_OP_MATH."""
    bits = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64) + 0x1000
    return (bits & 0xffffe000).astype(np.uint32).view(np.float32)


def cublas():
    """A library with cuBLAS's C interface: column-major products, recorded while a stream is captured."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    seen = types.SimpleNamespace(stream=None, math=None, workspace=None)

    def function(*types_):
        return ctypes.CFUNCTYPE(integer, *types_)

    @function(ctypes.POINTER(pointer))
    def create(handle):
        handle[0] = max(state.handles, default=76) + 1
        state.handles.add(handle[0])
        return 0

    @function(pointer)
    def destroy(handle):
        if state.capturing is not None:         # it synchronises the device
            state.broken = "cublasDestroy"
        if handle not in state.handles:
            return 1
        state.handles.discard(handle)
        return 0

    @function(pointer, pointer)
    def set_stream(handle, stream):
        seen.stream, seen.workspace = stream or 0, None
        return 0 if handle in state.handles else 1

    @function(pointer, pointer, ctypes.c_size_t)
    def set_workspace(handle, memory, size):
        seen.workspace = memory
        return 0 if handle in state.handles and memory and size >= 2 ** 20 else 7

    @function(pointer, integer)
    def set_math(handle, mode):
        seen.math = mode
        return 0 if handle in state.handles else 1

    def gemm(scalar, dtype):
        @function(pointer, integer, integer, integer, integer, integer, ctypes.POINTER(scalar), pointer, integer,
                  pointer, integer, ctypes.POINTER(scalar), pointer, integer)
        def call(handle, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
            if handle not in state.handles or seen.workspace is None or seen.stream != state.stream.ptr:
                return 1
            rows_a, rows_b = (k if op_a else m), (n if op_b else k)
            if lda < max(1, rows_a) or ldb < max(1, rows_b) or ldc < max(1, m):
                return 7

            def matrix(address, ld, rows, columns):
                memory = (scalar * (ld * (columns - 1) + rows)).from_address(address)
                flat = np.frombuffer(memory, dtype)
                return np.lib.stride_tricks.as_strided(flat, (rows, columns), (flat.itemsize, ld * flat.itemsize))

            def run(factor=alpha[0], keep=beta[0], tf32=seen.math == 3):
                x = matrix(a, lda, *((k, m) if op_a else (m, k)))
                y = matrix(b, ldb, *((n, k) if op_b else (k, n)))
                if tf32 and dtype is np.float32:
                    x, y = rounded_to_tf32(x), rounded_to_tf32(y)
                out = matrix(c, ldc, m, n)
                product = dtype(factor) * ((x.T if op_a else x) @ (y.T if op_b else y))
                out[...] = product if keep == 0 else product + dtype(keep) * out
            record(run)
            return 0
        return call

    return types.SimpleNamespace(
        cublasCreate_v2=create, cublasDestroy_v2=destroy, cublasSetStream_v2=set_stream,
        cublasSetWorkspace_v2=set_workspace, cublasSetMathMode=set_math, seen=seen,
        cublasSgemm_v2=gemm(ctypes.c_float, np.float32), cublasDgemm_v2=gemm(ctypes.c_double, np.float64))


@contextlib.contextmanager
def installed():
    """`import cupy` and its cuBLAS are the stand-in within this context; yields the module."""
    import sys

    from npdvae.backends import cublas as blas
    from npdvae.backends import cupy_backend
    before, load = sys.modules.get("cupy"), blas.load_library
    sys.modules["cupy"], blas.load_library = sys.modules[__name__], lambda major: cublas()
    cupy_backend.ops_of.cache_clear()
    state.unfinished.clear()                    # of a test that failed
    try:
        yield sys.modules[__name__]
    finally:
        blas.load_library = load
        cupy_backend.ops_of.cache_clear()
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before
