"""Workers beside other processes: who judges steps, who rests, and that no bit depends on it. Share: 1 s."""
import contextlib
import threading
import time

import numpy as np
import pytest

from npdvae.backends import blas
from npdvae.engine import Readable
from npdvae.kernels.cpu import pace, sync
from npdvae.kernels.cpu.compiler import CONTRACT, kernel
from npdvae.kernels.cpu.pace import ALL, ENTRIES, LENGTH, LONGEST, OWN, RESTING, SPUN, UNTIL, USED, WALL
from tests.test_numba_fused import engines
from tests.test_numba_segments import NUMBA, ORDER, Segmented, assert_same_bits, make, squashed


@kernel(CONTRACT)
def judge(state, now):
    pace.judge(state, now)


@kernel(CONTRACT)
def wait_for(counters, i, target):
    return sync.wait_for(counters, i, target)


@kernel(CONTRACT)
def rest(state, counters, step):
    pace.rest(state, counters, 0, 1, step)


def measured(state, wall, used, spun=0, own=5, all_=10):
    state[WALL], state[USED], state[SPUN], state[OWN], state[ALL] = wall, used, spun, own, all_


def test_a_step_longer_than_alone_sends_the_peers_to_rest_and_bad_ones_in_a_row_for_longer():
    state, now = np.zeros(ENTRIES, np.int64), 10_000
    for length in (1, 2, 4, 8, 16, 32, LONGEST, LONGEST):
        measured(state, 2501, 1100, 100)                            # alone: 2 (1100 - 100)
        judge(state, now)
        assert state[RESTING] == 1 and state[LENGTH] == length and state[UNTIL] == now + length * 2501
        assert not state[WALL:].any()
        measured(state, 10 ** 9, 1, own=10)                         # while they rest nothing is judged
        judge(state, state[UNTIL] - 1)
        assert state[RESTING] == 1
        now = state[UNTIL]
        judge(state, now)
        assert state[RESTING] == 0 and state[LENGTH] == length


@pytest.mark.parametrize("wall, used, spun, own, after", [
    (2499, 1100, 100, 5, 4), (10 ** 9, 1, 0, 10, 8), (1000, 10 ** 6, 10 ** 6 - 1, 0, 8)])
def test_a_good_step_halves_the_next_rest_and_one_without_peers_says_nothing(wall, used, spun, own, after):
    """The last: worker 0 had no chunk, so that nothing says how long one takes."""
    state = np.zeros(ENTRIES, np.int64)
    state[LENGTH] = 8
    measured(state, wall, used, spun, own)
    judge(state, 10_000)
    assert (state[RESTING], state[LENGTH]) == (0, after)


def test_a_peer_rests_until_it_is_over_or_its_step_is_done_or_all_is():
    for end in (lambda s, c: s.__setitem__(RESTING, 0), lambda s, c: c.__setitem__(0, 4),
                lambda s, c: c.__setitem__(1, 1)):
        state, counters = np.zeros(ENTRIES, np.int64), np.array([3, 0])     # three steps are done, it is at the fourth
        state[RESTING] = 1
        peer = threading.Thread(target=rest, args=(state, counters, 3), daemon=True)
        rest(state, counters, 2)                # that one is done
        peer.start()
        time.sleep(0.05)
        assert peer.is_alive()
        end(state, counters)
        peer.join(5)
        assert not peer.is_alive()


def test_a_long_wait_sleeps_and_says_how_long_it_was_busy():
    """0.3 s of which the processor sees less than half: 0.1 ms of turns, then naps, which cost a call each."""
    counters, found = np.zeros(1, np.int64), []
    assert wait_for(counters, 0, 0) == 0
    waiter = threading.Thread(target=lambda: found.append(wait_for(counters, 0, 1)), daemon=True)
    before = time.process_time()
    waiter.start()
    time.sleep(0.3)
    counters[0] = 1
    waiter.join(5)
    assert time.process_time() - before < 0.15
    assert 0 < found[0] < 0.3e9


def pool():
    """Threads that BLAS may use."""
    found = blas.calls()
    return found[0]() if found else 1


@pytest.mark.parametrize("fails", [False, True])
def test_blas_has_one_thread_between_segments_and_as_many_as_before_behind_them(monkeypatch, fails):
    before, seen = pool(), []
    for kind, threads in ((Segmented, 2), (Readable, 1)):
        engine = make(kind, "f4", NUMBA, latent=squashed)
        engine.threads = threads
        backward = engine.model.latent.backward

        def noted(*arguments, backward=backward):
            seen.append(pool())
            if fails:
                raise RuntimeError("a latent's own")
            return backward(*arguments)

        monkeypatch.setattr(engine.model.latent, "backward", noted)
        with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
            engine.run(ORDER)
        assert set(seen) == {1} and pool() == before


def test_blas_keeps_its_threads_where_nothing_is_asked_for_or_it_is_another(monkeypatch):
    before = pool()
    for n in (None, before, before + 1):
        with blas.threads(n):
            assert pool() == before
    monkeypatch.setattr(blas, "calls", lambda: None)
    with blas.threads(1):
        pass


@pytest.mark.parametrize("kind", ["whole steps", "segments"])
def test_bits_do_not_depend_on_who_rests(kind):
    """With two workers, and with one that rests in every other step."""
    found = []
    for resting in (False, True):
        whole = kind == "whole steps"
        engine = engines("rloo", threads=2)[1] if whole else make(Segmented, "f4", NUMBA, latent=squashed)
        sums = []
        for i, part in enumerate(np.split(ORDER, [10, 20])):
            engine.pace[RESTING], engine.pace[UNTIL] = resting and i != 1, 2 ** 62 if resting and i != 1 else 0
            sums.append(engine.run(part))
        found.append((np.concatenate(sums), engine.save()))
    assert np.array_equal(found[0][0], found[1][0])
    assert_same_bits(found[0][1], found[1][1])
