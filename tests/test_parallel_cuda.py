"""Teams on CUDA devices, by the stand-in: gradients through the host and by NCCL, the same bits. Share: 2 s."""
import ctypes
import functools

import numpy as np
import pytest

from npdvae import backends, build
from npdvae.backends import cuda_device
from npdvae.gpu.nccl import Nccl, adder
from npdvae.parallel.alone import ALONE
from npdvae.parallel.by_rows import ByRows
from npdvae.parallel.tree import tree_sum
from tests.cuda import problem
from tests.cuda.places import place
from tests.teams import Comm, World, each, teams
from tests.test_numba_segments import assert_same_bits


class Library:
    """cupy.cuda.nccl: memory of one device is everybody's here."""

    NCCL_FLOAT32, NCCL_FLOAT64, available = 7, 8, True
    worlds: dict = {}

    @classmethod
    def get_unique_id(cls):
        cls.worlds[len(cls.worlds)] = None
        return (len(cls.worlds) - 1,)

    class NcclCommunicator:
        def __init__(self, size, number, rank):
            Library.worlds[number[0]] = Library.worlds[number[0]] or World(size)
            self.comm = Comm(Library.worlds[number[0]], rank)

        def allGather(self, send, receive, count, kind, stream):
            width = {7: 4, 8: 8}[kind] * count
            for rank, address in enumerate(self.comm.allgather(send)):
                ctypes.memmove(receive + rank * width, address, width)
            self.comm.barrier()


@pytest.fixture
def ops():
    with place("emulator"):
        yield backends.load("cupy")


def wild(seed):
    g = np.random.default_rng(seed)
    return (g.normal(size=70) * 10.0 ** g.integers(-6, 7, 70)).astype(np.float32)


def test_nccl_adds_by_the_tree(ops):
    terms = [wild(i) for i in range(5)]
    for term in terms:
        term[:3] = -0.0                         # and so is their sum, whoever is idle
    expected = tree_sum(terms, np.add)

    def act(team):
        nccl, mine = Nccl(ops.xp, Library, team), team.block(5)
        own = tree_sum([terms[i] for i in mine], np.add) if mine else terms[0]
        arrays = {"b": ops.xp.asarray(own.reshape(7, 10)), "a": ops.xp.asarray(own.astype("f8"))}
        total = nccl.total(dict(reversed(arrays.items())) if team.rank % 2 else arrays, idle=not mine)
        return ops.to_host(total["b"]), list(total), total["a"].dtype

    for rank, (found, names, dtype) in enumerate(each(act, teams(8))):
        assert found.tobytes() == expected.tobytes() and found.shape == (7, 10) and dtype == np.float64
        assert names == (["a", "b"] if rank % 2 else ["b", "a"])


@pytest.mark.parametrize("estimator, options", [("rloo", {"samples": 3}), ("reinforce", {"baseline": "running_mean"}),
                                                ("gumbel_softmax", {"anneal": "learned"})])
def test_devices_end_in_the_same_bits_for_any_number_of_them(ops, estimator, options):
    def act(team, nccl=False):
        engine = problem.engine(ops, estimator, options, dtype=np.float32, microbatch=2, clip=0.5)
        engine.team = team
        engine.adder = Nccl(ops.xp, Library, team) if nccl else None
        return engine.run(problem.order()[:10]), engine.save()

    sums, end = act(ALONE)
    for nccl in (False, True):
        for got, state in each(functools.partial(act, nccl=nccl), teams(2)):
            assert got.tobytes() == sums.tobytes()
            assert_same_bits(state, end)


def test_codes_on_devices_too(ops):
    def act(team):
        engine = problem.engine(ops, "exact", dtype=np.float32, kind=functools.partial(ByRows, team=team, shares=4))
        engine.adder = Nccl(ops.xp, Library, team) if team.size > 1 else None
        return engine.run(problem.order()[:10]), engine.save()

    sums, end = act(ALONE)
    for got, state in each(act, teams(2)):
        assert got.tobytes() == sums.tobytes()
        assert_same_bits(state, end)


@pytest.mark.parametrize("numbers, has, nccl", [((0, 1), True, True), ((0, 0), True, False), ((0, 1), False, False)])
def test_nccl_serves_where_each_process_has_its_device(ops, monkeypatch, numbers, has, nccl):
    device = build.load_backend("cupy").softmax.__self__.device
    monkeypatch.setattr(device.cupy.cuda, "nccl", Library if has else None, raising=False)
    found = each(lambda team: type(adder(device._replace(number=numbers[team.rank]), team)), teams(2))
    assert found == [Nccl if nccl else type(None)] * 2


def test_processes_of_a_machine_take_devices_in_turn(ops, monkeypatch):
    monkeypatch.setattr(ops.xp.cuda.runtime, "getDeviceCount", lambda: 4)
    assert [cuda_device.nth(1, local) for local in range(5)] == [1, 2, 3, 0, 1]
