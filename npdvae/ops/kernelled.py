"""Formulas that a backend may serve by a kernel of its own; everywhere else they are what runs."""
import functools


def kernelled(formula):
    """Decorator of a formula (ops, *arguments): the table's kernel of its name where it fits the arguments."""
    @functools.wraps(formula)
    def either(ops, *arguments):
        kernel = ops.kernel(formula.__name__, arguments)
        return formula(ops, *arguments) if kernel is None else kernel(*arguments)
    return either
