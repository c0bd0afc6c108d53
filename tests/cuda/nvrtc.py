"""Compiles CUDA sources to machine code without a GPU, through the NVRTC library of its PyPI wheel."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import pathlib
import re
import sysconfig
from typing import NamedTuple

from npdvae.kernels.cuda import launch

OPTIONS = (*launch.OPTIONS, "-ftz=true")        # CuPy adds the last, and it cannot be turned off
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
REPORT = re.compile(r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
                    r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)", re.S)


class Usage(NamedTuple):
    """What a kernel takes of the machine, as ptxas reports it."""

    registers: int
    stack: int                                  # bytes
    spills: int                                 # bytes, stores and loads
    shared: int                                 # bytes


def folders():
    """Folders that may hold the libraries: nvidia-cuda-nvrtc (nvidia/cu13/lib) and its forerunner."""
    site = pathlib.Path(sysconfig.get_paths()["purelib"])
    return [*site.glob("nvidia/cu*/lib"), *site.glob("nvidia/cuda_nvrtc/lib")]


@functools.cache
def library():
    """The NVRTC library, or None where it is not installed."""
    for folder in folders():
        found = [p for p in sorted(folder.glob("libnvrtc.so.*")) if ".alt." not in p.name]
        if not found:
            continue
        for builtins in folder.glob("libnvrtc-builtins.so*"):
            if ".alt." not in builtins.name:
                ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(found[0]))
    return None


def available():
    """Nothing, or why kernels cannot be compiled here."""
    return "" if library() is not None else "nvrtc is not installed (pip install nvidia-cuda-nvrtc, Linux only)"


def version() -> tuple[int, int]:
    """Version of the NVRTC library."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


@contextlib.contextmanager
def program(text, architecture, options):
    """A compiled program and its log. Raises ValueError with the log where it does not compile."""
    lib, made = library(), ctypes.c_void_p()
    lib.nvrtcCreateProgram(ctypes.byref(made), text.encode(), b"kernel.cu", 0, None, None)
    flags = [f"-arch={architecture}", "--ptxas-options=-v", "--device-as-default-execution-space", *options]
    array = (ctypes.c_char_p * len(flags))(*(f.encode() for f in flags))
    try:
        code = lib.nvrtcCompileProgram(made, len(flags), array)
        report = read(made, lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog).decode()
        if code:
            raise ValueError(report)
        yield made, report
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(made))


def read(made, get_size, get):
    """What one of NVRTC's pairs of functions gives."""
    size = ctypes.c_size_t()
    get_size(made, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    get(made, buffer)
    return buffer.raw[:size.value].rstrip(b"\0")


def compile_ptx(text: str, architecture: str, options=OPTIONS) -> str:
    """The assembly of a source. Raises ValueError with the compiler's log."""
    with program(text, architecture, options) as (made, _):
        return read(made, library().nvrtcGetPTXSize, library().nvrtcGetPTX).decode()


def compile_cubin(text: str, architecture: str, options=OPTIONS) -> tuple[int, dict[str, Usage]]:
    """Bytes of machine code and what each kernel uses. Raises ValueError with the compiler's log."""
    with program(text, architecture, options) as (made, report):
        size = len(read(made, library().nvrtcGetCUBINSize, library().nvrtcGetCUBIN))
    usage = {}
    for name, stack, stores, loads, registers, rest in REPORT.findall(report):
        shared = re.search(r"(\d+) bytes smem", rest)
        usage[name] = Usage(int(registers), int(stack), int(stores) + int(loads), int(shared[1]) if shared else 0)
    return size, usage
