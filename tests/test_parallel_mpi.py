"""What stands between MPI and a team, MPI played by threads: who sits where, how processes end. Share: 1 s."""
import contextlib
import io
import os
import signal
import sys
import tempfile
import types

import numpy as np
import pytest

from npdvae.parallel import guard, mpi
from npdvae.parallel.alone import ALONE
from npdvae.parallel.team import Team
from tests.teams import Comm, World, each, teams


class Played(Comm):
    """A communicator that can be split; machines: that of each rank."""

    turns = 0

    def __init__(self, world, rank, machines):
        super().__init__(world, rank)
        self.machines, self.Barrier = machines, self.barrier

    def Split(self, color, key):
        told, self.turns = self.allgather((color, key, self.rank)), self.turns + 1
        mine = [rank for c, _, rank in sorted(told) if c == color]
        parts = vars(self.world).setdefault("parts", {})
        world = parts.setdefault((self.turns, color), World(len(mine)))
        return Played(world, mine.index(self.rank), [self.machines[rank] for rank in mine])

    def Split_type(self, kind, key):
        assert kind == "shared"
        return self.Split(self.machines[self.rank], key)

    def Dup(self):
        return self.Split(0, self.rank)


class Win:
    """A window: bytes of each process of a machine."""

    def __init__(self, memory):
        self.memory, self.locked = memory, False

    @classmethod
    def Allocate_shared(cls, size, unit, comm):
        assert size >= 1 and unit == 1
        sizes = comm.allgather(size)
        if comm.rank == 0:
            comm.world.memory = [bytearray(n) for n in sizes]
        comm.barrier()
        memory = comm.world.memory
        comm.barrier()
        return cls(memory)

    def Lock_all(self):
        self.locked = True

    def Sync(self):
        assert self.locked

    def Shared_query(self, rank):
        return memoryview(self.memory[rank]), 1

    def Unlock_all(self):
        self.locked = False

    def Free(self):
        assert not self.locked
        self.memory = None


MPI = types.SimpleNamespace(COMM_TYPE_SHARED="shared", Win=Win)


def played(machines):
    """The teams that MPI would make of processes on these machines."""
    world = World(len(machines))
    return each(lambda rank: mpi.arranged(MPI, Played(world, rank, machines)), list(range(len(machines))))


def places(comm):
    return comm and (comm.rank, comm.size)


@pytest.mark.parametrize("machines, ranks, nodes, across", [
    ("aaaa", [0, 1, 2, 3], [(0, 4), (1, 4), (2, 4), (3, 4)], [(0, 1)] * 4),
    ("abab", [0, 2, 1, 3], [(0, 2), (0, 2), (1, 2), (1, 2)], [(0, 2), (1, 2), (0, 2), (1, 2)]),
    ("bbaa", [0, 1, 2, 3], [(0, 2), (1, 2), (0, 2), (1, 2)], [(0, 2), (0, 2), (1, 2), (1, 2)]),
    ("abcd", [0, 1, 2, 3], [None] * 4, [None] * 4), ("abbc", [0, 1, 2, 3], [None] * 4, [None] * 4),
    ("aaabbb", [0, 1, 2, 3, 4, 5], [None] * 6, [None] * 6),
    ("aaaaaa", [0, 1, 2, 3, 4, 5], [None] * 6, [None] * 6), ("a", [0], [None], [None])])
def test_processes_of_a_machine_are_neighbours_and_share_memory_where_all_have_as_many(machines, ranks, nodes, across):
    """As many, and a power of two above one."""
    found = played(machines)
    assert [team.rank for team in found] == ranks and {team.size for team in found} == {len(machines)}
    assert [places(team.node) for team in found] == nodes and [places(team.across) for team in found] == across
    assert [places(team.end) for team in found] == [(r, len(machines)) for r in ranks]
    assert [team.local[1] for team in found] == [machines.count(m) for m in machines]


@pytest.mark.parametrize("machines", ["abab", "aaaa", "abcd"])
def test_teams_of_mpi_add_in_memory_that_machines_share(machines):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpi.Node, "room", lambda node: 1000)
        found = each(lambda team: team.total({"a": np.arange(5.0) + team.rank})["a"].copy(), played(machines))
    assert np.array_equal(found, [4 * np.arange(5) + 6.0] * 4)


def test_memory_is_seen_in_whole_numbers():
    assert mpi.Shared(Win([bytearray(3), bytearray(21)])).part(1, np.dtype("f8")).tolist() == [0, 0]
    window = Win([bytearray(8)])
    mpi.Shared(window).free()
    assert window.memory is None


def test_room_is_what_shared_memory_has_or_without_bound():
    node = mpi.Node(MPI, Played(World(1), 0, "a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpi.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=[path, 7]))
        patch.setattr(mpi.os.path, "isdir", lambda path: path == "/dev/shm")
        assert node.room() == ["/dev/shm", 7]
        patch.setattr(mpi.os.path, "isdir", lambda path: False)
        assert node.room() == 2 ** 62


# ---- joining ---------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def environment(module=None, **variables):
    """As a launcher sets it, with mpi4py as given; what else is patched is undone, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*mpi.SIZES, *mpi.RANKS):
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setitem(sys.modules, "mpi4py", module)
        yield patch


def test_a_launcher_is_known_by_what_it_sets():
    for variables, expected in (({}, False), ({"PMI_SIZE": "2"}, True), ({"PMIX_RANK": "0"}, True),
                                ({"PMI_RANK": "0"}, False)):
        with environment(**variables):
            assert mpi.launched() is expected


def test_who_joins_is_checked_against_what_the_launcher_said():
    module = types.SimpleNamespace(MPI=types.SimpleNamespace(**vars(MPI), COMM_WORLD=Played(World(1), 0, "a")))
    with environment(module, PMI_SIZE="1"):
        team = each(lambda _: mpi.join(), [None])[0]
        assert isinstance(team, Team) and team.size == 1
    with environment(module, PMI_SIZE="2"), pytest.raises(ValueError, match="one of 2 .* mpi4py sees 1"):
        mpi.join()
    with environment(PMI_SIZE="1"):
        assert mpi.join() is ALONE
    with environment(PMI_SIZE="2"), pytest.raises(ValueError, match="mpi4py cannot be imported"):
        mpi.join()


# ---- ending ----------------------------------------------------------------------------------------------------------

class Ended:
    """A team whose processes have all failed after so many polls; what is done to it is noted."""

    rank, size = 1, 2

    def __init__(self, polls):
        self.polls, self.comm, self.end, self.said = polls, self, self, []

    def Ibarrier(self):
        return self

    def Test(self):
        self.polls -= 1
        return self.polls < 0

    def Abort(self, code):
        self.said.append(code)

    def dismiss(self):
        self.said.append("dismissed")


@pytest.mark.parametrize("polls, expected", [(0, True), (3, True), (4, True), (5, True), (6, False), (99, False)])
def test_a_failure_is_everybodys_within_the_patience(polls, expected):
    """Polls half a second apart on a clock that does not begin at zero, patience two seconds."""
    now = [100.0]

    def sleep(seconds):
        assert 0 < seconds <= 0.1
        now[0] += 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpi, "time", types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
        patch.setattr(mpi, "PATIENCE", 2)
        assert mpi.all_end(Ended(polls)) is expected


def test_one_line_names_who_fails_and_ends_all():
    team, written = Ended(0), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpi.os, "write", lambda *a: written.append(a))
        mpi.say_and_abort(team, team, ValueError("what\nwas wrong"))
        mpi.say("here", KeyError(3))
    assert written == [(2, b"npdvae: error: rank 1 of 2: what was wrong\n"), (2, b"npdvae: error: here: KeyError: 3\n")]
    assert team.said == ["dismissed", 2]


@pytest.mark.parametrize("together, ended", [(True, []), (False, ["aborted"])])
def test_a_process_that_fails_alone_ends_all(together, ended):
    member, seen = teams(1)[0], []
    with environment(PMI_SIZE="1") as patch:
        patch.setattr(mpi, "join", lambda: member)
        patch.setattr(mpi, "all_end", lambda team: together)
        patch.setattr(mpi, "say_and_abort", lambda *a: seen.append("aborted"))
        patch.setattr(mpi, "Guard", lambda team: contextlib.nullcontext(seen.append("guarded")))
        patch.setattr(member, "wait", lambda: seen.append("waited"))
        with mpi.team() as team:
            assert team is member
        with pytest.raises(KeyError), mpi.team():
            raise KeyError(1)
        assert seen == ["guarded", "waited", "guarded", *ended]
        patch.setattr(mpi, "join", lambda: ALONE)
        with mpi.team() as team:
            assert team is ALONE
        assert seen[3:] == ended


def test_all_but_the_first_are_silent():
    for rank, silent in (("0", False), ("1", True)):
        with environment(PMI_RANK=rank) as patch:
            before = io.StringIO(), io.StringIO()
            patch.setattr(sys, "stdout", before[0])
            patch.setattr(sys, "stderr", before[1])
            with mpi.team() as team:
                found = sys.stdout, sys.stderr
                assert team is ALONE and (found == before) is not silent
                assert not silent or found[0] is found[1] and found[0].name == os.devnull


def test_a_silent_process_says_itself_why_it_cannot_join():
    for rank, count in (("0", 0), ("1", 1)):
        written = []
        with environment(PMI_SIZE="2", PMI_RANK=rank) as patch:
            patch.setattr(sys, "stdout", io.StringIO())
            patch.setattr(sys, "stderr", io.StringIO())
            patch.setattr(mpi.os, "write", lambda *a: written.append(a))        # noqa: B023
            with pytest.raises(ValueError, match="cannot be imported"), mpi.team():
                pass
        assert len(written) == count


# ---- the guard -------------------------------------------------------------------------------------------------------

class Shell:
    """What `Popen` is asked for, and what is written to it."""

    def __init__(self, command, **options):
        self.line, self.stdin, self.heard = command[-1], options["stdin"], []

    def communicate(self, line):
        self.heard.append(line)


@pytest.mark.parametrize("system, size, shells", [("posix", 1, 0), ("posix", 2, 2), ("nt", 2, 0)])
def test_each_process_of_several_has_a_shell_that_it_dismisses(system, size, shells):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard.subprocess, "Popen", Shell)
        patch.setattr(guard, "os", types.SimpleNamespace(name=system, getpid=lambda: 7, makedirs=os.makedirs))
        found = each(guard.Guard, teams(size))
        kept = [watching.shell for watching in found]
        assert sum(shell is not None for shell in kept) == shells and os.path.isdir(found[0].folder)
        for rank, (watching, shell) in enumerate(zip(found, kept)):
            watching.dismiss()
            assert watching.shell is None and not os.path.isdir(watching.folder)
            assert shell is None or shell.heard == [b"\n"] and f"rank {rank} of {size} (process 7 on " in shell.line


def test_a_guard_without_an_open_pipe_writes_nothing():
    watching, shell = guard.Guard(ALONE), Shell(["sh"], stdin=None)
    watching.shell = shell
    watching.dismiss()
    assert shell.heard == [] and watching.shell is None


def test_signals_within_a_guard_dismiss_it_first():
    """Handlers of functions alone: what is ignored stays ignored."""
    before, seen = {number: signal.getsignal(number) for number in guard.SIGNALS}, []
    first, second = guard.SIGNALS[:2]
    try:
        signal.signal(first, lambda number, frame: seen.append(os.path.isdir(watching.folder)))
        signal.signal(second, signal.SIG_IGN)
        with guard.Guard(ALONE) as watching:
            assert signal.getsignal(second) is signal.SIG_IGN and os.path.isdir(watching.folder)
            signal.getsignal(first)(first, None)
        assert seen == [False] and watching.folder.startswith(tempfile.gettempdir())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
