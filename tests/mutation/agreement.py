"""Does a listed equivalent agree with the code as it is? The calls that the tests make, made again on the mutant."""
import copy
import sys

import numpy as np

CALLS = 12                                      # recorded calls of the mutated function that are replayed
ITEMS = 6                                       # tests, the quickest, whose calls are recorded
DEPTH = 8                                       # of objects within objects that are compared
TOLERANCE = 1e-12                               # of the largest entry: equivalents may round differently


def disagreement(bench, mutant, items):
    """None where every recorded call gives the same result on the mutant, else what differs."""
    if not mutant.scope:
        return None                             # a constant: its reason alone speaks
    calls = record(bench.functions[mutant.scope], items)
    bench.put_in(mutant)
    try:
        for arguments, expected in calls:
            got = outcome(bench.functions[mutant.scope], copy.deepcopy(arguments))
            if not same(got, expected):
                return f"gives {short(got[0])} where the code gives {short(expected[0])}"
    finally:
        bench.take_out()
    return None


def record(function, items):
    """(arguments, result) of the first calls that some tests make of a function."""
    code, calls = function.__code__, []
    names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]

    def profile(frame, event, argument):
        if event == "call" and frame.f_code is code:
            try:
                calls.append(copy.deepcopy({name: frame.f_locals[name] for name in names}))
            except Exception:                   # an argument that cannot be copied
                return
            if len(calls) == CALLS:
                sys.setprofile(None)            # the rest of the test at its usual speed

    for item in items[:ITEMS]:
        if len(calls) == CALLS:
            break
        sys.setprofile(profile)
        try:
            item.call()
        finally:
            sys.setprofile(None)
    return [(arguments, outcome(function, copy.deepcopy(arguments))) for arguments in calls]


def outcome(function, arguments):
    """The result of a call, generators run to their end, or its error; the arguments too, which it may have changed."""
    try:
        result = function(**arguments)
        if hasattr(result, "__next__"):
            result = list(result)
    except Exception as error:
        return type(error), None
    return result, arguments


def same(a, b, depth=DEPTH):
    """Equal up to rounding, through tuples, dicts, arrays and objects."""
    if depth == 0:
        return True
    if isinstance(a, np.ndarray | np.generic | float | complex) and np.asarray(a).dtype.kind in "fc":
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        scale = max(1.0, np.abs(b).max(initial=0, where=np.isfinite(b)))
        return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * scale, equal_nan=True))
    if isinstance(a, np.ndarray):
        return a.shape == np.shape(b) and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], depth - 1) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, depth - 1) for x, y in zip(a, b))
    if type(a).__eq__ is object.__eq__ and hasattr(a, "__dict__"):
        return type(a) is type(b) and same(vars(a), vars(b), depth - 1)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and same(vars(a), vars(b), depth - 1)
    return callable(a) or bool(a == b)


def short(value):
    return " ".join(repr(value).split())[:80]
