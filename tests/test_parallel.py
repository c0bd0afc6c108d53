"""Shares of a batch and their tree: the same bits for every number of processes, played by threads. Share: 3 s."""
import sys
import types

import numpy as np
import pytest

from npdvae import describe, likelihoods, train
from npdvae.backends import blas
from npdvae.config import Config
from npdvae.engine import Readable
from npdvae.fused import Segmented
from npdvae.latents.vq import VQ
from npdvae.parallel import guard, mpi
from npdvae.parallel import team as team_module
from npdvae.parallel.alone import ALONE
from npdvae.parallel.reduce import Messages, Window, add_into
from npdvae.parallel.team import Team
from npdvae.parallel.tree import block, plus_each, tree_sum
from npdvae.step import step
from tests.teams import Comm, World, each, teams
from tests.test_numba_segments import NUMBA, NUMPY, ORDER, OWN, assert_same_bits, make, squashed


def wild(n, seed, dtype=np.float32):
    """Numbers of all magnitudes and both zeros: no two orders of a sum round alike."""
    g = np.random.default_rng(seed)
    v = (g.normal(size=n) * 10.0 ** g.integers(-6, 7, n)).astype(dtype)
    v[g.random(n) < 0.05] = -0.0
    return v


def spelt(terms):
    """The tree as text: how its sum is bracketed."""
    return tree_sum(map(str, terms), lambda a, b: f"({a}+{b})")


def test_the_tree_pairs_neighbours_level_by_level():
    def by_levels(terms):
        while len(terms) > 1:
            terms = [f"({terms[i]}+{terms[i + 1]})" if i + 1 < len(terms) else terms[i]
                     for i in range(0, len(terms), 2)]
        return terms[0]

    assert spelt(range(5)) == "(((0+1)+(2+3))+4)"
    for n in range(1, 40):
        assert spelt(range(n)) == by_levels([str(i) for i in range(n)])


def test_the_tree_holds_few_terms_at_a_time():
    alive = most = 0

    def terms():
        nonlocal alive, most
        for _ in range(100):
            alive += 1
            most = max(most, alive)
            yield 1

    def plus(a, b):
        nonlocal alive
        alive -= 1
        return a + b

    assert tree_sum(terms(), plus) == 100 and most <= 8             # log2 100 and the one that comes


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("terms", [*range(1, 20), 64])
def test_blocks_are_subtrees(terms, size):
    blocks = [block(terms, rank, size) for rank in range(size)]
    assert [i for b in blocks for i in b] == list(range(terms))
    if terms >= size:                           # idle processes add nothing, and are the last
        sums = [spelt(b) for b in blocks if b]
        assert spelt(sums) == spelt(range(terms))
    assert sorted(map(len, blocks), reverse=True) == list(map(len, blocks))


@pytest.mark.parametrize("size, local", [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 4), (8, 2), (8, 4), (16, 4)])
@pytest.mark.parametrize("n", [1, 3, 1000])
def test_every_process_gets_the_bits_of_the_tree(size, local, n):
    terms = [wild(n, seed) for seed in range(16)]
    expected = tree_sum(terms, np.add)

    def act(team):
        found = []
        for turn in range(3):                   # buffers serve again
            own = tree_sum([np.roll(terms[i], turn) for i in team.block(16)], np.add)
            total = team.total({"a": own, "b": 2 * own.astype("f8"), "c": own[:1].reshape(1, 1)})
            found.append({k: v.copy() for k, v in total.items()})
        return found, [type(sums).__name__ for _, sums in team.sums.values()]

    for found, used in each(act, teams(size, local)):
        assert set(used) == (set() if size == 1 else {"Window" if local > 1 else "Messages"})
        for turn, total in enumerate(found):
            assert np.roll(total["a"], -turn).tobytes() == expected.tobytes()
            assert total["c"].shape == (1, 1) and total["c"][0, 0] == total["a"][0] and total["b"].dtype == "f8"


@pytest.mark.parametrize("local", [1, 2])
def test_idle_processes_change_no_bit_not_even_a_zeros_sign(local):
    terms = [wild(500, seed) for seed in range(5)]
    terms[0][:9], terms[1][:9] = -0.0, -0.0
    for t in terms:
        t[:5] = -0.0
    expected = tree_sum(terms, np.add)

    def act(team):
        mine = team.block(5)
        own = tree_sum([terms[i] for i in mine], np.add) if mine else np.full(500, np.nan, np.float32)
        return team.total({"g": own}, idle=not mine)["g"].copy()

    assert all(found.tobytes() == expected.tobytes() for found in each(act, teams(8, local)))
    assert np.signbit(expected[:5]).all()


def test_halving_and_doubling_send_each_number_twice():
    world = World(8)

    def act(rank):
        comm = Comm(world, rank)
        sums = Messages(comm, 800, np.float32)
        sums.own[:] = rank
        assert (sums.add() == 28).all()
        return comm.sent

    assert each(act, list(range(8))) == [2 * 700] * 8


def test_vectors_of_one_machine_are_added_by_the_tree():
    for n in (1, 2, 4, 8):
        vectors, total = [wild(40, seed) for seed in range(n)], np.empty(40, np.float32)
        expected = tree_sum(vectors, np.add)
        add_into(total, vectors)
        assert total.tobytes() == expected.tobytes()


def test_without_room_for_shared_memory_messages_do():
    members = teams(2, 2)
    for team in members:
        team.node.room = lambda: 100
    found = each(lambda team: (team.total({"g": np.full(90, 1 + team.rank, np.float32)})["g"][0],
                               type(team.sums[np.dtype("f4")][1])), members)
    assert found == [(3.0, Messages)] * 2
    found = each(lambda team: team.space(4, np.dtype("f4")), members)
    assert [(type(sums), sums.scratch.size) for sums in found] == [(Window, 2)] * 2


def test_the_place_of_sums_is_kept_while_their_size_is():
    team, (f4, f8) = Team(Comm(World(1), 0)), (np.dtype("f4"), np.dtype("f8"))
    assert team.local == (0, 1)
    first = team.space(4, f4)
    other = team.space(4, f8)
    assert team.space(4, f4) is first is not other and team.space(5, f4) is not first and team.space(4, f8) is other


def test_shared_memory_is_taken_where_every_machine_has_room_to_spare():
    """A vector for each process of the machine and one for the total; a tenth stays free."""
    members, seen = teams(2, 2), []
    for member in members:
        member.node.room = lambda: 10
    for room, expected in ((8, True), (9, False)):
        assert all(found is expected for found in each(lambda member: member.fits(room), members))     # noqa: B023
    assert each(lambda member: member.fits(10 ** 9), teams(2)) == [True] * 2    # nothing to share it with
    for member in members:
        member.fits = lambda room: seen.append(room)
        assert type(member.space(90, np.dtype("f4"))) is Messages
    assert seen == [90 * 4 * 3] * 2


@pytest.mark.parametrize("system, alone, three", [
    (dict(sched_getaffinity=lambda process: {0: range(12)}[process]), 12, [4] * 3),
    (dict(sched_getaffinity=lambda process: {0: range(2)}[process]), 2, [1] * 3),
    (dict(cpu_count=lambda: 6), 6, [2] * 3), (dict(cpu_count=lambda: None), 1, [1] * 3)])
def test_cores_are_divided_among_the_processes_that_may_use_them(system, alone, three):
    world = World(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(team_module, "os", types.SimpleNamespace(**system))
        assert Team(Comm(World(1), 0)).threads() == alone
        assert each(lambda rank: Team(Comm(world, rank), here=Comm(world, rank)).threads(), [0, 1, 2]) == three


def test_what_the_first_finds_or_raises_is_everybodys():
    def act(team):
        found = team.first(lambda a: (a, team.rank), 7)
        with pytest.raises(ValueError, match="only here"):
            team.first(lambda: int("only here"))
        return found, team.gather([team.rank] * team.rank)

    assert each(act, teams(4)) == [((7, 0), [1, 2, 2, 3, 3, 3])] * 4


@pytest.mark.parametrize("size, shares, said", [(3, 8, "3 processes cannot share a batch of 8 pieces: expected a power "
                                                 "of two, at most 8$"), (16, 8, "give more with --shares"),
                                                (2, 1, "at most 1"), (8, 5, None), (1, 1, None), (4, 1000, None)])
def test_processes_must_be_a_power_of_two_within_the_shares(size, shares, said):
    team = Team(Comm(World(size), 0))
    if said is None:
        team.check(shares)
    else:
        with pytest.raises(ValueError, match=said):
            team.check(shares)


def vq(ops):
    return VQ(3, 4, ops, size=2)


def gaussian(ops):
    return likelihoods.get("gaussian", ops=ops, learned=True)


ENGINES = {                                     # pieces of three; of the last batch, of 7, too: a fourth process idles
    "rloo": dict(), "vimco": dict(estimator="vimco"),
    "running mean": dict(estimator="reinforce", baseline="running_mean"),
    "nvil, clipped": dict(estimator="reinforce", baseline="nvil", clip=0.5),
    "others of its piece": dict(estimator="reinforce", baseline="batch_leave_one_out"),
    "learned temperature": dict(estimator="gumbel_softmax", anneal="learned", optimizer="radam"),
    "rebar": dict(estimator="rebar", prior="learned"), "vq": dict(latent=vq), "own latent": dict(latent=squashed),
    "gaussian": dict(likelihood=gaussian, binarize="none", optimizer="sgd"), "own optimizer": dict(optimizer=OWN),
}
EXACT = {"exact": dict(estimator="exact")}


def run(kind, ops, size, local, options, microbatch=3):
    """Sums and end of each process of a team, on 27 images."""
    def act(team):
        engine = make(kind, "f4", ops, microbatch=microbatch, threads=1, team=team, **options)
        return engine.run(ORDER), engine.save()
    with blas.threads(1):                       # of the whole program, in which each would set and reset it
        return each(act, [ALONE] if size == 1 else teams(size, local))


@pytest.mark.parametrize("name", ENGINES)
def test_compiled_segments_end_in_the_same_bits_for_any_number_of_processes(name):
    (sums, end), = run(Segmented, NUMBA, 1, 1, ENGINES[name])
    for size, local in ((2, 2), (4, 1)):
        for got, state in run(Segmented, NUMBA, size, local, ENGINES[name]):
            assert got.tobytes() == sums.tobytes()
            assert_same_bits(state, end)


@pytest.mark.parametrize("name", [*ENGINES, *EXACT])
def test_the_readable_engine_ends_in_the_same_bits_for_any_number_of_processes(name):
    options = (ENGINES | EXACT)[name]
    (sums, end), = run(Readable, NUMPY, 1, 1, options)
    for size, local in ((2, 1), (4, 2)):
        for got, state in run(Readable, NUMPY, size, local, options):
            assert got.tobytes() == sums.tobytes()
            assert_same_bits(state, end)


@pytest.mark.parametrize("kind, ops", [(Readable, NUMPY), (Segmented, NUMBA)])
@pytest.mark.parametrize("size, batch, microbatch", [(8, 10, 2), (4, 9, 3)])
def test_more_processes_than_pieces_idle(kind, ops, size, batch, microbatch):
    """Pieces of 2 of 7 images: four; eight processes. Three pieces of 3: all steps in one call."""
    options = {"batch": batch}
    (sums, end), = run(kind, ops, 1, 1, options, microbatch)
    for got, state in run(kind, ops, size, 4, options, microbatch):
        assert got.tobytes() == sums.tobytes()
        assert_same_bits(state, end)


def test_who_idles_goes_through_pieces_of_the_others_size():
    """The workers' turns hold a whole piece each, also where it counts for nothing."""
    for n, idle in ((9, [(0, 3)]), (2, [(0, 2)])):
        found = [make(Readable, "f4", NUMPY, batch=9, microbatch=3, team=team).pieces(n) for team in teams(4)]
        assert found == [*[([(i, min(i + 3, n))], False) for i in range(0, n, 3)], *[(idle, True)] * (4 - -(-n // 3))]


@pytest.mark.parametrize("kind, ops", [(Readable, NUMPY), (Segmented, NUMBA)])
@pytest.mark.parametrize("samples", [1, 2])
def test_evaluations_are_shared_out_to_the_same_bits(kind, ops, samples):
    """Nine images in batches of two, or in one; more rows than a call of the workers takes."""
    def act(team):
        engine = make(kind, "f4", ops, microbatch=2, threads=1, team=team)
        test = engine.dataset.test
        return [engine.evaluate(rows, samples, 5).tobytes() for rows in (test, np.tile(test, (60, 1)))]

    with blas.threads(1):
        expected = act(ALONE)
        for size in (2, 4, 8):
            assert each(act, teams(size)) == [expected] * size


def test_pieces_are_added_by_the_tree_and_not_one_by_one():
    """The first gradient of five pieces of two: that of an optimizer whose first moment it is."""
    engine = make(Readable, "f4", NUMPY, optimizer=OWN, microbatch=2)
    s, now = engine.state, describe.scalars(engine.recipe, engine.state.step, 10)
    parts = [step(engine.model, s.params, engine.targets(ORDER[i:i + 2], i), engine.latent_rng.at(s.step, example=i),
                  s.latent, now.kl_weight, now.scale).grads for i in range(0, 10, 2)]
    engine.run(ORDER[:10])
    found, in_turn = engine.save().moments, [sum(part[k] for part in parts) for k in parts[0]]
    for k, g in tree_sum(parts, plus_each).items():
        assert np.array_equal(found[f"a.{k}"], g), k
    assert any((found[f"a.{k}"] != g).any() for k, g in zip(parts[0], in_turn))


def test_totals_lie_in_one_order_on_which_sums_of_squares_depend():
    g = {"g": np.asfortranarray(wild(12, 0).reshape(3, 4)), "one": np.float32(2).reshape(())}
    for team in (ALONE, *teams(1)):
        for got in (make(Readable, "f4", NUMPY, microbatch=2, team=team).totals(g, False),
                    make(Readable, "f4", NUMPY, microbatch=2, team=team).added(team, g, False)):
            assert got["g"].flags.c_contiguous and np.array_equal(got["g"], g["g"]) and got["one"].shape == ()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_silent_process_that_cannot_join_says_so_with_its_machine(rank, monkeypatch, capfd):
    for name in (*mpi.SIZES, *mpi.RANKS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(mpi.socket, "gethostname", lambda: "n3")
    assert train.main([]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if "mpi4py cannot be imported" in line]
    assert len(said) == 1 and said[0].startswith("npdvae: error: on n3: " if rank else "npdvae: error: started by MPI")


@pytest.mark.parametrize("place, name", [(guard.os, "makedirs"), (guard.subprocess, "Popen")])
def test_without_a_shell_the_work_goes_on(place, name, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no room")

    def act(team):
        watching = guard.Guard(team)
        watching.dismiss()
        return watching.shell

    monkeypatch.setattr(place, name, refuse)
    assert each(act, teams(2)) == [None, None]


@pytest.mark.parametrize("error", [OSError, ValueError, RuntimeError])
def test_a_signal_while_the_guard_is_dismissed_stays_a_signal(error):
    """The file is closed, or being written to."""
    class Shell:
        stdin = True

        def communicate(self, line):
            raise error("in use")

    watching, seen = guard.Guard(ALONE), []
    watching.shell = Shell()
    watching.interrupted(lambda *signal: seen.append(signal), 15, None)
    assert seen == [(15, None)] and watching.shell is None


def test_all_processes_end_with_the_code_of_the_first_whose_report_fails(monkeypatch):
    monkeypatch.setattr(train, "one", lambda config, folder, team: 0 if team.rank else 2)
    assert each(lambda team: train.several(Config(out="nowhere"), [0, 1], team), teams(2)) == [2, 2]


def test_processes_of_a_machine_that_share_no_memory_share_its_cores_and_devices(monkeypatch):
    """Three on one machine and one on another."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(12)), raising=False)
    world, machines = World(4), [World(3), World(1)]
    members = [Team(Comm(world, r), here=Comm(machines[r // 3], r % 3)) for r in range(4)]
    assert [team.local for team in members] == [(0, 3), (1, 3), (2, 3), (0, 1)]
    assert each(lambda team: team.threads(), members) == [4, 4, 4, 12]


def test_arrays_are_told_apart_by_name_not_by_place():
    def act(team):
        arrays = {"a": np.ones(3), "b": np.full((2, 2), 5.0)}
        return team.total(dict(reversed(arrays.items())) if team.rank else arrays)["a"].copy()

    assert np.array_equal(each(act, teams(2)), np.full((2, 3), 2.0))
