"""How CPU kernels are compiled: nogil, IEEE division, and to the same machine code in whatever process.

A kernel is a plain Python function on NumPy arrays; under NUMBA_DISABLE_JIT=1 it runs as written. Numba links what a
kernel calls into it as weak symbols, of which the loader takes the first it has seen; here each keeps its own copies.
"""
import ctypes
import hashlib
import pickle

from numba import config, njit
from numba.core.caching import _Cache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.sigutils import normalize_signature

from npdvae.kernels.cpu import store

CONTRACT = {"contract"}                         # a*b + c as one fused operation; keeps every comparison and NaN
SUMS = {"contract", "reassoc", "nsz"}           # sums may be reordered, so that they vectorise; keeps NaN and infinity
REFUSAL = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value    # raises TypeError
# references to arrays are counted, in counters that workers share, only by what makes or reshapes arrays
COUNTED, UNCOUNTED = dict(_nrt=True), dict(_nrt=False)
UNWRAPPED = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)    # nothing but kernels calls it


class Whole(JITCodeLibrary):
    """The machine code of one kernel with all that it calls, none of which is seen from outside."""

    own: frozenset = frozenset()

    def add_llvm_module(self, ll_module):
        self.own |= {f.name for f in ll_module.functions if not f.is_declaration}
        super().add_llvm_module(ll_module)

    def _finalize_final_module(self):
        for f in self._final_module.functions:
            if not f.is_declaration and f.name not in self.own:
                f.linkage = "internal"
        super()._finalize_final_module()


class Part(JITCodeLibrary):
    """Code that is compiled into its callers: optimised, never made executable by itself."""

    class codegen:
        """Nothing executable has an environment."""

        @staticmethod
        def set_env(name, environment):
            """Numba's, of executable code."""

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name):
        return REFUSAL                          # to Python, which calls it as it would a wrapper


class Into(Compiler):
    """Numba's compiler, into a library of the given kind."""

    kind: type

    def __init__(self, typing, context, library, *rest):
        library = self.kind(context.codegen(), "kernel")
        library.enable_object_caching()
        super().__init__(typing, context, library, *rest)


class IntoWhole(Into):
    kind = Whole


class IntoPart(Into):
    kind = Part


class Kept(_Cache):
    """Machine code of one kernel in the store, for Numba's dispatcher."""

    cache_path = None

    def __init__(self, function):
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    def file(self, signature, codegen):
        """Named by what the machine code depends on, beside the sources."""
        key = repr((normalize_signature(signature)[0], codegen.magic_tuple()))
        return f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def load_overload(self, sig, target_context):
        target_context.refresh()
        name = self.file(sig, target_context.codegen())
        data = store.load(name)
        if data is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception:                       # whatever unpickling raises
            store.discard(name)
            return None

    def save_overload(self, sig, data):
        store.save(self.file(sig, data.codegen), pickle.dumps(data._reduce(), protocol=-1))

    def enable(self):
        """It always is."""

    def disable(self):
        """It never is."""

    def flush(self):
        """Old kernels go with their folder."""


def compiled(function, fastmath, pipeline, **options):
    return njit(nogil=True, error_model="numpy", fastmath=fastmath, pipeline_class=pipeline, **options)(function)


def kernel(fastmath, **options):
    """Decorator: compile on first call, for the types of that call, with the given floating-point freedoms."""
    def decorate(function):
        made = compiled(function, fastmath, IntoWhole, **{"no_cfunc_wrapper": True, **options})
        if not config.DISABLE_JIT and function.__module__.startswith(__package__):
            made._cache = Kept(function)
        return made
    return decorate


def inner(fastmath, **options):
    """Decorator of a function that only kernels call: compiled with each of them."""
    def decorate(function):
        return compiled(function, fastmath, IntoPart, **{**UNWRAPPED, **UNCOUNTED, **options})
    return decorate


helper = inner(CONTRACT)                        # its own arithmetic is never reordered
