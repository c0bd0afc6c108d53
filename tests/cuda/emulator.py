"""Builds CUDA sources for the CPU with g++ behind emulator.h, and runs their kernels through ctypes."""
from __future__ import annotations

import ctypes
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SCHEDULES = range(4)                            # lockstep and greedy warps, each in both directions
NAME = re.compile(r'^(?:KERNEL|extern "C" __global__ void __launch_bounds__\(\w+\)) (\w+)\(', re.M)
CODES = {"i4": "i", "u4": "u", "i8": "q", "u1": "b", "f4": "f", "f8": "d"}

# -Bsymbolic: libc has an `advance` of its own.
BASIC = ("-std=c++17", "-g1", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-fno-strict-aliasing", "-Wno-unknown-pragmas")

GLUE = """
#include <type_traits>
#include <utility>
namespace emulator {
template <class T> struct Code;
template <> struct Code<int> { static constexpr char value = 'i'; };
template <> struct Code<unsigned> { static constexpr char value = 'u'; };
template <> struct Code<long long> { static constexpr char value = 'q'; };
template <> struct Code<unsigned char> { static constexpr char value = 'b'; };
template <> struct Code<float> { static constexpr char value = 'f'; };
template <> struct Code<double> { static constexpr char value = 'd'; };
template <class... A> const char* codes(void (*)(A...)) {          // two letters a parameter: * for a pointer, the type
    static const char text[] = {(std::is_pointer<A>::value ? '*' : '.')..., 0};
    static const char types[] = {Code<std::remove_const_t<std::remove_pointer_t<A>>>::value..., 0};
    static char both[2 * sizeof...(A) + 1];
    for (size_t i = 0; i < sizeof...(A); i++) both[2 * i] = text[i], both[2 * i + 1] = types[i];
    return both;
}
template <class... A, size_t... I> void call(void (*f)(A...), void** a, std::index_sequence<I...>) { f(*(A*)a[I]...); }
#ifdef REAL
const bool flush = sizeof(REAL) == sizeof(float);                   // CuPy compiles with -ftz=true, which is of floats
#else
const bool flush = true;
#endif
template <class... A> void call(void (*f)(A...), void** a) { call(f, a, std::index_sequence_for<A...>{}); }
}
"""
ENTRY = """
extern "C" const char* codes_{0}() {{ return emulator::codes({0}); }}
extern "C" const char* run_{0}(const unsigned* grid, const unsigned* block, int schedule, void** a) {{
    return emulator::launch(grid, block, schedule, emulator::flush, [](void** a) {{ emulator::call({0}, a); }}, a);
}}
"""


class Fault(RuntimeError):
    """A kernel did what a device would not forgive."""


class Refused(RuntimeError):
    """A source that does not compile; the compiler's words."""


def available():
    """Whether kernels can be built here, else why not."""
    if os.name != "posix":
        return "CUDA emulator needs POSIX fibers"
    if shutil.which("g++") is None:
        return "CUDA emulator needs g++"
    return ""


SANITISED = "-fsanitize=address"


def default_flags():
    """Of the compiler; NPDVAE_EMULATOR_FLAGS may ask for others."""
    return tuple(os.environ.get("NPDVAE_EMULATOR_FLAGS", "-O1").split())


def build(text: str, flags=None) -> Library:
    """The shared library of a CUDA source, kept by the hash of all that it is made from."""
    names = NAME.findall(text)
    whole = "\n".join(['#include "emulator.h"', text, '#line 1 "glue"', GLUE, *(ENTRY.format(n) for n in names)])
    header = (HERE / "emulator.h").read_text()
    flags = (*BASIC, *(default_flags() if flags is None else flags))
    digest = hashlib.sha256("\0".join([whole, header, *flags]).encode()).hexdigest()[:24]
    folder = cache_folder()
    library = folder / f"{digest}.so"
    if not library.exists():
        scratch = folder / f"{digest}-{os.getpid()}"
        scratch.with_suffix(".cpp").write_text(whole)
        made = subprocess.run(["g++", *flags, f"-I{HERE}", str(scratch) + ".cpp", "-o", str(scratch) + ".so"],
                              capture_output=True, text=True)
        if made.returncode:
            raise Refused(made.stderr)
        os.replace(str(scratch) + ".so", library)
        os.replace(str(scratch) + ".cpp", folder / f"{digest}.cpp")
    return Library(ctypes.CDLL(str(library)), names)


def cache_folder() -> pathlib.Path:
    """Where built libraries are kept: build/ of the checkout, or a temporary folder where that cannot be written."""
    folder = HERE.parent.parent / "build" / "cuda-emulator"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except OSError:
        folder = pathlib.Path(tempfile.gettempdir()) / f"npdvae-cuda-emulator-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


class Library:
    """The kernels of one built source."""

    def __init__(self, library, names):
        self.names, self.codes, self.functions = names, {}, {}
        for name in names:
            codes, run = getattr(library, f"codes_{name}"), getattr(library, f"run_{name}")
            codes.restype, run.restype = ctypes.c_char_p, ctypes.c_char_p
            run.argtypes = [ctypes.c_uint * 3, ctypes.c_uint * 3, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)]
            text = codes().decode()
            self.codes[name] = [text[i:i + 2] for i in range(0, len(text), 2)]
            self.functions[name] = run

    def run(self, name, grid, block, arguments, schedule=0):
        """Launch with arguments as a driver takes them: addresses (uintp) and scalars; TypeError where types differ.

        An argument may be an array, which stands for its address and whose type is then checked too.
        """
        codes, held = self.codes[name], []
        if len(arguments) != len(codes):
            raise TypeError(f"{name} takes {len(codes)} arguments, got {len(arguments)}")
        for i, (a, code) in enumerate(zip(arguments, codes)):
            held.append(word(a, code, f"{name}, argument {i}"))
        slots = (ctypes.c_void_p * len(held))(*(h.ctypes.data for h in held))
        sizes = [(ctypes.c_uint * 3)(*([*size] + [1, 1, 1])[:3]) for size in (grid, block)]
        fault = self.functions[name](*sizes, schedule, slots)
        if fault:
            raise Fault(f"{name}: {fault.decode()}")


def word(a, code, where):
    """The storage of one argument, checked against its code in the kernel's own C++ type."""
    if isinstance(a, np.ndarray):
        kind = CODES.get(a.dtype.kind + str(a.dtype.itemsize))
        if code != f"*{kind}":
            raise TypeError(f"{where}: the kernel wants {code}, got an array of {a.dtype}")
        return np.array([a.ctypes.data], np.uintp)
    if not isinstance(a, np.generic):
        raise TypeError(f"{where}: untyped {type(a).__name__}; the size of an argument must be exact")
    if code[0] == "*":
        if a.dtype != np.uintp:
            raise TypeError(f"{where}: the kernel wants an address, got {a.dtype}")
    elif CODES.get(a.dtype.kind + str(a.dtype.itemsize)) != code[1]:
        raise TypeError(f"{where}: the kernel wants {code}, got {a.dtype}")
    return np.array([a])
