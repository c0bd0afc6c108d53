"""Jobs of the fused CPU engine: who writes them and who reads them agree, field by field. Share: 1 s."""
import ast
import functools
import inspect
import itertools
import sys

import numpy as np
import pytest

from npdvae import mlp
from npdvae.data import binarize
from npdvae.estimators import names
from npdvae.estimators.parts import baselines
from npdvae.fused import (
    bfloat16 as of_bfloat16,
)
from npdvae.fused import (
    encoder,
    engine,
    exact,
    fours,
    frame,
    latent,
    layers,
    panels,
    plan,
    sampled,
    segments,
    support,
    update,
    whole,
)
from npdvae.kernels.cpu import calls, fused_worker, jobs
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE

READERS = fused_worker.SERVERS
WRITERS = (of_bfloat16, encoder, engine, exact, fours, frame, latent, layers, panels, plan, sampled, segments, support,
           update, whole)
ORDERLESS = {*map(str.upper, jobs.KINDS), "LINEAR", "RELU", "LEAKY_RELU", "TANH", "THRESHOLDED", "DRAWN", "GREY",
             "AT_ONCE", "KEPT", "NO_UPDATE", "ADAPTIVE", "MOMENTUM", "GIVEN", "NO_BASELINE", "SHIFTED",
             "LEAVE_ONE_OUT", "RLOO", "EXACT", "STRAIGHT_THROUGH", "REINMAX"}


def tree(module):
    return ast.parse(inspect.getsource(module))


@functools.cache
def functions(module):
    return {f.name: f for f in tree(module).body if isinstance(f, ast.FunctionDef)}


KERNELS = {name: f for module in READERS for name, f in functions(module).items() if name in jobs.KINDS}


def unpacked(function):
    """Names that a kernel unpacks from slices of its job, in order; the job may be read in no other way."""
    names, end = [], 2
    reads = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == "a"]
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and node.value.value in reads:
            start, stop = (ast.literal_eval(bound) for bound in (node.value.slice.lower, node.value.slice.upper))
            (target,) = node.targets
            assert isinstance(target, ast.Tuple), ast.unparse(node)
            assert start == end and stop - start == len(target.elts), ast.unparse(node)
            names += [ast.unparse(name) for name in target.elts]
            reads.remove(node.value.value)
            end = stop
    assert not reads, f"{function.name} reads its job otherwise"
    return names


@pytest.mark.parametrize("kind", jobs.KINDS)
def test_kernel_unpacks_the_fields_of_its_job_by_name(kind):
    """In order, less an i_ for offsets of integers; _ for one that it does not need."""
    fields, names = jobs.FIELDS[kind], unpacked(KERNELS[kind])
    assert len(names) == len(fields)
    for field, name in zip(fields, names):
        assert name in (field, field.removeprefix("i_"), "_")


def test_each_kind_is_served_by_the_kernel_of_its_name():
    """And by that one alone, whatever module it is imported from."""
    assert calls.JOBS.keys() == jobs.KINDS.keys()
    for kind, kernel in calls.JOBS.items():
        function = getattr(kernel, "py_func", kernel)
        assert function.__name__ == kind and sys.modules[function.__module__] in READERS
        assert sum(kind in functions(reader) for reader in READERS) == 1


class Noted:
    """In place of a kernel: keeps what it is called with."""

    def __init__(self, kernel):
        self.py_func = getattr(kernel, "py_func", kernel)

    def __call__(self, *arguments):
        self.taken = arguments


@pytest.mark.parametrize("kind", jobs.KINDS)
def test_a_job_is_given_what_it_names(kind, monkeypatch):
    """By position in `do`, which passes on to each kernel the arguments of its names."""
    given = {name: np.full(1, jobs.KINDS[kind]) if name == "a" else object() for name in calls.OF_JOB}
    noted = Noted(calls.JOBS[kind])
    monkeypatch.setitem(calls.JOBS, kind, noted)
    calls.do_twin(None, *given.values())
    assert [id(x) for x in noted.taken] == [id(given[name]) for name in calls.names(noted)]


def test_workers_and_jobs_agree_on_types():
    """An argument of both has one type; `do` is called with what it declares."""
    for name in calls.OF_JOB.keys() & calls.TYPES.keys() - {"out"}:     # of a job: that of its step
        assert calls.OF_JOB[name] == calls.TYPES[name]
    assert calls.TYPES["out"].dtype == calls.OF_JOB["out"].dtype
    assert set(calls.names(fused_worker.work)) == set(calls.TYPES)
    assert list(inspect.signature(calls._do._defn).parameters)[2:] == list(calls.OF_JOB)


def test_kinds_are_numbered_as_their_fields_are_listed():
    assert {kind: getattr(jobs, kind.upper()) for kind in jobs.KINDS} == jobs.KINDS
    assert max(map(len, jobs.FIELDS.values())) + 2 <= jobs.MOST_ARGUMENTS


def written(monkeypatch):
    """All jobs that plans of all kinds write."""
    found = []

    def record(stages):
        found.append(stages)
        return (), ()

    monkeypatch.setattr(plan, "encode", record)
    for few, long, sparse, prior, hidden, bfloat16, kind in itertools.product(
            (0, 1 << 16), (2, 512), (True, False), ("uniform", "learned"), ((9,), (20, 11)), (False, True),
            (jobs.RLOO, jobs.REINMAX, jobs.LEAVE_ONE_OUT, jobs.EXACT)):
        monkeypatch.setattr(plan, "FEW", few)
        monkeypatch.setattr(frame, "LONG", long)
        model = DiscreteVAE(19, hidden, Categorical(2, 3, "rloo", prior=prior))
        samples = 1 if kind == jobs.EXACT else 2
        plan.Plan(model, 10, plan.FusedGradient(kind, samples), jobs.DRAWN, 255, sparse,
                  bfloat16=bfloat16 and kind != jobs.EXACT).build(1)
        for rows, costs in itertools.product((segments.Rows(2, 2), segments.Rows(1, 0)), (True, False)):
            cut = segments.SegmentPlan(model, 10, rows, costs, jobs.DRAWN, 255, sparse, whole=costs,
                                       bfloat16=bfloat16)
            for program in (cut.training, cut.evaluation):
                with monkeypatch.context() as patch:
                    patch.setattr(segments, "encode", record)
                    program()
    return [job for stages in found for stage in stages
            for job in (stage.jobs if isinstance(stage, plan.Through) else stage)]


def test_plans_write_exactly_the_fields_of_each_job(monkeypatch):
    found = written(monkeypatch)
    assert {kind for kind, _, _ in found} == set(jobs.KINDS)
    for kind, chunks, arguments in found:
        assert set(arguments) == set(jobs.FIELDS[kind]), kind
        assert chunks > 0 and all(isinstance(v, int) for v in arguments.values()), kind


@pytest.mark.parametrize("fault", [dict(extra=1), dict(logits=None)])
def test_a_job_of_other_fields_is_refused(fault):
    arguments = {k: v for k, v in (dict(D=1, K=2, logits=3, log_p=4) | fault).items() if v is not None}
    with pytest.raises(ValueError, match=f"job prior: arguments .*{next(iter(fault))}"):
        plan.encode([[("prior", 1, arguments)]])


def test_the_table_holds_the_fields_in_their_order():
    stages = [[("prior", 1, dict(log_p=4, logits=3, K=2, D=1))],
              plan.Through(5, [("report", 7, dict(S=1, loss=2, parts=3, kl=4, D=5, tracks=6))] * 2)]
    table, ends = plan.encode(stages)
    assert table[0, :6].tolist() == [jobs.PRIOR, 1, 1, 2, 3, 4] and not table[0, 6:].any()
    assert table[2, :8].tolist() == [jobs.REPORT, 7, 1, 2, 3, 4, 5, 6]
    assert ends.tolist() == [[0, 1, 0], [1, 3, 5]]


def test_numbers_stand_for_all_names_and_differ():
    assert set(jobs.ACTIVATIONS) == {"linear", *mlp.ACTIVATIONS}
    assert set(jobs.PIXEL_MODES) == set(binarize.MODES)
    assert set(jobs.ESTIMATORS) < set(names()) and set(jobs.BASELINES) < set(baselines.BASELINES)
    assert not set(jobs.ESTIMATORS.values()) & set(jobs.BASELINES.values())
    for numbers, different in ((jobs.ACTIVATIONS, 4), (jobs.PIXEL_MODES, 3), (jobs.ESTIMATORS, 4), (jobs.BASELINES, 3)):
        assert len(set(numbers.values())) == different


@pytest.mark.parametrize("module", [*READERS, fused_worker, *WRITERS], ids=lambda module: module.__name__)
def test_the_order_of_such_numbers_means_nothing(module):
    """Nobody compares one by < or >: which belong together is said by name."""
    named = {f"{prefix}{name}" for prefix in ("", "jobs.") for name, number in vars(jobs).items()
             if name in ORDERLESS and isinstance(number, int)}
    assert len(named) == 2 * len(ORDERLESS)
    ordering = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Compare) and any(isinstance(op, ordering) for op in node.ops):
            assert not named & {ast.unparse(side) for side in (node.left, *node.comparators)}, ast.unparse(node)
