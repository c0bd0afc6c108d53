"""Every op has the same arguments, order and defaults on all backends, as its declared type says. Share: 0.5 s."""
import inspect
import typing

import pytest

from npdvae.backends import Ops, cupy_backend, numba_backend, numpy_backend

REFERENCE = numpy_backend.table()
OPS = [name for name in Ops._fields if name not in ("name", "xp", "to_host", "kernel")]
HINTS = typing.get_type_hints(Ops)


def own_function(op):
    """What a wrapper of the numba backend calls, as `functools.wraps` hides its arguments; else the op itself."""
    return inspect.getclosurevars(op).nonlocals["function"] if hasattr(op, "__wrapped__") else op


def arguments(function):
    """(name, default, kind) of each argument, self left out."""
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    return [(p.name, p.default, p.kind) for p in parameters if p.name != "self"]


def difference(reference, other):
    """None where two functions are called alike, else one line."""
    here, there = arguments(reference), arguments(other)
    return None if here == there else f"{reference.__name__}: {there}, expected {here}"


@pytest.mark.parametrize("name", OPS)
def test_numba_takes_the_arguments_of_the_reference(name):
    assert difference(getattr(REFERENCE, name), own_function(getattr(numba_backend.table(), name))) is None


@pytest.mark.parametrize("name", OPS)
def test_cupy_takes_the_arguments_of_the_reference(name):
    assert difference(getattr(REFERENCE, name), getattr(cupy_backend.CupyOps, name)) is None


@pytest.mark.parametrize("name", OPS)
def test_the_declared_type_is_that_of_the_reference(name):
    declared, reference = HINTS[name], getattr(REFERENCE, name)
    hints = typing.get_type_hints(reference)
    if typing.get_args(declared):               # Callable: types by position
        takes, gives = typing.get_args(declared)
        assert [*takes, gives] == [hints[a[0]] for a in arguments(reference)] + [hints["return"]]
    else:                                       # a protocol: names too, and which arguments have defaults
        assert typing.get_type_hints(declared.__call__) == hints
        assert [(a, d is inspect.Parameter.empty) for a, d, _ in arguments(declared.__call__)] == [
            (a, d is inspect.Parameter.empty) for a, d, _ in arguments(reference)]


def test_the_numba_kernels_are_compared_and_not_what_they_wrap():
    assert {name for name in OPS if hasattr(getattr(numba_backend.table(), name), "__wrapped__")} == set(
        numba_backend.KERNELS) and len(numba_backend.KERNELS) > 25
    assert own_function(numba_backend.relu).__module__ == numba_backend.__name__


@pytest.mark.parametrize("fault", [
    lambda p, g, m, rate, momentum=0.9: None, lambda p, g, m, lr, momentum=0.8: None,
    lambda p, m, g, lr, momentum=0.9: None, lambda p, g, m, lr, momentum: None,
    lambda p, g, m, lr, *, momentum=0.9: None, lambda p, g, m, lr, momentum=0.9, eps=0: None])
def test_a_difference_is_seen(fault):
    assert difference(REFERENCE.sgd, lambda p, g, m, lr, momentum=0.9: None) is None
    assert difference(REFERENCE.sgd, fault)
