"""Matrix products through a cuBLAS handle of our own: CuPy refuses its handle while a stream is captured."""
from __future__ import annotations

import ctypes
import importlib
import pathlib
import sys
import weakref

import numpy as np

from npdvae.backends import BackendError

PRECISIONS = ("float32", "tf32")
WORKSPACE = 32 * 2 ** 20                        # bytes, what cuBLAS recommends for Hopper; more than the others need
DEFAULT_MATH, TF32_MATH = 0, 3                  # cublasMath_t
N, T = 0, 1                                     # cublasOperation_t
STATUS = {1: "not initialised", 3: "out of memory", 7: "invalid value", 8: "architecture too old", 11: "mapping error",
          13: "execution failed", 14: "internal error", 15: "not supported"}
pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
GEMM = [pointer, integer, integer, integer, integer, integer, pointer, pointer, integer, pointer, integer, pointer,
        pointer, integer]
ARGUMENTS = {"cublasCreate_v2": [pointer], "cublasDestroy_v2": [pointer], "cublasSetStream_v2": [pointer, pointer],
             "cublasSetWorkspace_v2": [pointer, pointer, size], "cublasSetMathMode": [pointer, integer],
             "cublasSgemm_v2": GEMM, "cublasDgemm_v2": GEMM}


def load_library(major: int):
    """libcublas of a CUDA version: loaded already or where the loader looks, in a pip wheel, or where CUDA lies."""
    names = (f"libcublas.so.{major}", f"cublas64_{major}.dll")
    wheels = [str(path) for folder in sys.path for name in names
              for path in sorted(pathlib.Path(folder or ".", "nvidia").glob(f"**/{name}"))]
    for name in (*names, *wheels):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    try:
        found = importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublas").abs_path or ""
        if not pathlib.Path(found).name.startswith(names):          # other versions may lie beside the one asked for
            raise OSError(f"found only {found or 'one without a path'}")
        return ctypes.CDLL(found)
    except Exception as error:                  # pathfinder's errors are its own
        raise BackendError(f"backend cupy: cannot load cuBLAS ({names[0]}): {' '.join(str(error).split())[:200]}; "
                           f"pip install 'npdvae[cuda{major}]' brings it") from None


class Blas:
    """Products of row-major matrices on one stream; nothing here allocates or waits, so it may be captured."""

    def __init__(self, cupy, precision="float32"):
        if precision not in PRECISIONS:
            raise ValueError(f"--matmul-precision: got {precision}, expected one of {', '.join(PRECISIONS)}")
        self.cupy, self.precision = cupy, precision
        self.cublas = load_library(cupy.cuda.runtime.runtimeGetVersion() // 1000)
        for name, arguments in ARGUMENTS.items():
            getattr(self.cublas, name).argtypes, getattr(self.cublas, name).restype = arguments, integer
        handle = pointer()
        self.call("cublasCreate_v2", ctypes.byref(handle))
        self.handle = handle
        destroy = weakref.finalize(self, self.cublas.cublasDestroy_v2, handle)
        destroy.atexit = False                  # the driver may be gone by then
        self.workspace = cupy.empty(WORKSPACE, np.uint8)
        self.stream = None
        self.products = 0
        self.call("cublasSetMathMode", handle, TF32_MATH if precision == "tf32" else DEFAULT_MATH)

    def call(self, name, *arguments):
        """One library call; BackendError unless it succeeds."""
        status = getattr(self.cublas, name)(*arguments)
        if status:
            raise BackendError(f"backend cupy: {name} failed: {STATUS.get(status, f'status {status}')}")

    def follow(self, stream):
        """Work on this stream from now on (its address); the workspace is set again, as a new stream drops it."""
        if stream != self.stream:
            self.call("cublasSetStream_v2", self.handle, stream)
            self.call("cublasSetWorkspace_v2", self.handle, self.workspace.data.ptr, WORKSPACE)
            self.stream = stream

    def matmul(self, a, b, out, transpose_a=False, transpose_b=False, alpha=1.0):
        """out [M, N] = alpha op(a) op(b), all contiguous and of one float type, on the current stream."""
        M, K = a.shape[::-1] if transpose_a else a.shape
        K_b, columns = b.shape[::-1] if transpose_b else b.shape
        if K != K_b or out.shape != (M, columns):
            raise ValueError(f"matmul: [{M}, {K}] times [{K_b}, {columns}] into {list(out.shape)}")
        for x in (a, b, out):
            if x.dtype != out.dtype or not x.flags.c_contiguous:
                raise TypeError(f"matmul: expected contiguous {out.dtype} arrays, got {x.dtype}, strides {x.strides}")
        if not (M and columns):
            return out
        name, scalar = {"f4": ("cublasSgemm_v2", ctypes.c_float), "f8": ("cublasDgemm_v2", ctypes.c_double)}[
            f"f{out.dtype.itemsize}"]
        one, zero = scalar(alpha), scalar(0)
        self.follow(self.cupy.cuda.get_current_stream().ptr)
        self.products += 1
        # cuBLAS counts by columns: the same memory is then out^T = op(b)^T op(a)^T
        self.call(name, self.handle, T if transpose_b else N, T if transpose_a else N, columns, M, K,
                  ctypes.byref(one), b.data.ptr, b.shape[1], a.data.ptr, a.shape[1], ctypes.byref(zero), out.data.ptr,
                  columns)
        return out
