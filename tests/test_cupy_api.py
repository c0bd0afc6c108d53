"""Our uses of CuPy, and the stand-in, against an installed CuPy; it takes no GPU to look. Share of the suite: 2 s."""
import ast
import builtins
import functools
import importlib
import inspect
import types

import pytest

from tests.cuda import cupy_api, cupy_stand_in

USES = cupy_api.uses()
PATHS = sorted({use.path for use in USES})
HELPERS = {"work", "refuse_capture", "poison", "allocate", "unwrap", "wrap", "known", "apply", "record", "cublas",
           "rounded_to_tf32", "installed", "Launch", "Immediately"}    # of the stand-in itself; the rest is CuPy's


@pytest.fixture(scope="module")
def cupy():
    """The real CuPy, or a skip."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        pytest.skip(f"needs cupy (pip install cupy-cuda12x; no CUDA device): {error}")


def test_uses_are_read_from_the_sources():
    text = """
runtime, dtype = self.ops.xp.cuda.runtime, None
runtime.memGetInfo()
a = cupy.stack([cupy.cuda.Event(disable_timing=True).record(*b)], axis=1)
xp, other = numpy, 3
""" + "c = self.on.xp.exp(a).cuda"
    found = {(use.path, use.positional, use.keywords) for use in cupy_api.uses_in(ast.parse(text), "text")}
    assert found == {("cuda.runtime", None, ()), ("cuda.runtime.memGetInfo", 0, ()), ("exp", 1, ()),
                     ("stack", 1, ("axis",)), ("cuda.Event", 0, ("disable_timing",))}
    assert {"RawModule", "cuda.Stream", "cuda.get_elapsed_time", "cuda.runtime.driverGetVersion", "copyto", "einsum",
            "cuda.compiler.CompileException"} <= set(PATHS) and len(USES) > 300


def test_parameters_are_read_from_signatures_and_docstrings():
    class Compiled:
        """Compiled(str code=None, *, tuple options=(), str backend='nvrtc')

        More.
        """
        __signature__ = "none"                  # as Cython's classes: inspect finds nothing
    assert cupy_api.parameters(lambda self, a, *b, c=3: 0) == {"a": inspect.Parameter.empty, "c": 3}
    assert cupy_api.parameters(Compiled) == {"code": "None", "options": "()", "backend": "'nvrtc'"}
    assert cupy_api.parameters(lambda **options: 0) is None


@pytest.mark.parametrize("path", PATHS)
def test_what_we_use_is_in_cupy(cupy, path):
    """The name, the keywords, and the number of arguments where a signature tells."""
    fits(cupy, path)


@pytest.mark.parametrize("path", PATHS)
def test_what_we_use_is_in_the_stand_in(path):
    """Without CuPy too: what the tests cannot reach is not tested."""
    fits(cupy_stand_in, path)
    listed = cupy_api.listed().get(path)
    for use in USES if listed is not None else ():
        assert use.path != path or set(use.keywords) <= set(listed), use.where


def fits(module, path):
    """The module has the name, and takes what we pass."""
    target = cupy_api.resolve(module, path)
    for use in (use for use in USES if use.path == path and use.positional is not None):
        names = cupy_api.parameters(target)
        assert names is None or set(use.keywords) <= set(names), f"{use.where}: {path} takes {', '.join(names)}"
        if isinstance(target, types.FunctionType):
            inspect.signature(target).bind(*[None] * use.positional, **dict.fromkeys(use.keywords))


def test_listed_names_and_keywords_are_in_cupy(cupy):
    """cupy_names.txt, which the stand-in keeps to."""
    for name, keywords in cupy_api.listed().items():
        found = cupy_api.parameters(cupy_api.resolve(cupy, name))
        assert found is None or keywords is None or set(keywords) <= set(found), name


def own():
    """What the stand-in defines itself: paths of functions, classes and methods, with the objects."""
    def inside(path, thing):
        yield path, thing
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            for name, value in vars(thing).items():
                if not name.startswith("_") and name not in getattr(thing, "__slots__", ()):
                    yield f"{path}.{name}", value
        if isinstance(thing, types.SimpleNamespace):
            for name, value in vars(thing).items():
                yield from inside(f"{path}.{name}", value)
    for name, value in vars(cupy_stand_in).items():
        here = getattr(value, "__module__", None) == cupy_stand_in.__name__ or name in ("cuda", "runtime")
        if here and not name.startswith("_") and name not in HELPERS:
            yield from inside(*ELSEWHERE.get(name, (name,)), value)


# where CuPy has what the stand-in has at its top
ELSEWHERE = {"runtime": ("cuda.runtime",), "MemoryPool": ("cuda.MemoryPool",), "Stream": ("cuda.Stream",),
             "Event": ("cuda.Event",), "Graph": ("cuda.Graph",), "Device": ("cuda.Device",),
             "OutOfMemoryError": ("cuda.memory.OutOfMemoryError",), "NVRTCError": ("cuda.nvrtc.NVRTCError",),
             "CUDARuntimeError": ("cuda.runtime.CUDARuntimeError",),
             "CUDADriverError": ("cuda.driver.CUDADriverError",),
             "CompileException": ("cuda.compiler.CompileException",), "get_elapsed_time": ("cuda.get_elapsed_time",)}
OWN = dict(own())


@pytest.mark.parametrize("path", sorted(OWN))
def test_the_stand_in_offers_nothing_that_cupy_lacks(cupy, path):
    """Names, keywords and their defaults; without a default it asks for more than CuPy, which is no harm."""
    found, theirs = OWN[path], cupy_api.resolve(cupy, path)
    if isinstance(found, property | functools.cached_property | types.SimpleNamespace) or not callable(found):
        return
    if inspect.isclass(found) and issubclass(found, Exception):
        for kind in (RuntimeError, MemoryError, OSError, ValueError):           # so that handlers catch the same
            assert issubclass(found, kind) == issubclass(theirs, kind)
        return
    expected = cupy_api.parameters(theirs)
    for name, default in (cupy_api.parameters(found) or {}).items():
        assert expected is None or name in expected, f"{path} has no {name}: {', '.join(expected)}"
        if expected is not None and default is not inspect.Parameter.empty:
            assert default == expected[name] or repr(default) == expected[name], f"{path}: {name}={default}"


def test_own_names_of_the_stand_in_are_seen():
    assert {"cuda.Stream.begin_capture", "cuda.Graph.launch", "cuda.runtime.getDeviceCount", "ndarray.set", "asarray",
            "RawModule.get_function", "cuda.MemoryPool.total_bytes", "cuda.compiler.CompileException"} <= set(OWN)
    assert not HELPERS - set(vars(cupy_stand_in)) and not HELPERS & set(vars(builtins))


def test_copies_keep_their_order_in_cupy_too(cupy):
    assert cupy_api.parameters(cupy.array)["order"] == cupy_api.parameters(cupy.empty_like)["order"] == "K"
    assert cupy_api.parameters(cupy.ndarray.astype)["order"] == "'K'"
    assert "'K'" in cupy.asarray.__doc__


def test_kernels_take_what_we_pass(cupy):
    """RawModule.get_function gives a RawKernel: grid, block and arguments, by position."""
    assert "grid, block, args" in cupy.RawKernel.__call__.__doc__
