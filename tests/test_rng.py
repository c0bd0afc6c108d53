"""The counter-based generator. Share: 2 s."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npdvae import rng
from npdvae.rng import Generator, philox, to_uniform, uniform
from tests.checks import close

ONES = 0xFFFFFFFF


@pytest.mark.parametrize("counter, key, answer", [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     "d16cfe09 94fdcceb 5001e420 24126ea1")])
def test_philox_known_answers(counter, key, answer):
    """The three of Random123's kat_vectors, also from the middle of an array."""
    assert " ".join(f"{int(w):08x}" for w in philox(*counter, *key)) == answer
    words = philox(np.array([7, counter[0], 9])[:, None], counter[1], np.array([1, counter[2]]), counter[3], *key)
    assert all(w.shape == (3, 2) and w.dtype == np.uint32 for w in words)
    assert " ".join(f"{w[1, 1]:08x}" for w in words) == answer


def test_uniforms_are_strictly_inside_and_the_same_in_both_precisions():
    words = np.array([0, 511, 512, 2 ** 31, 2 ** 32 - 512, 2 ** 32 - 1], np.uint32)
    u32, u64 = to_uniform(words, np.float32), to_uniform(words, np.float64)
    assert u32.dtype == np.float32 and u64.dtype == np.float64 and (u32 == u64).all()
    assert u64.tolist() == [2.0 ** -24, 2.0 ** -24, 3 * 2.0 ** -24, 0.5 + 2.0 ** -24, 1 - 2.0 ** -24, 1 - 2.0 ** -24]
    assert (to_uniform(words) == u64).all() and to_uniform(words).dtype == np.float64


def test_uniform_reads_the_counter_as_documented():
    u = uniform(5, 3, 17, 1000, 2, (3, 2, 4, 3))                    # [S, B, D, N]: 9 words are 3 blocks
    for s, b, d, n in np.ndindex(u.shape):
        block, word = divmod(s * 3 + n, 4)
        assert u[s, b, d, n] == to_uniform(philox(17, 1000 + b, d, 2 + block, 5, 3)[word])


@given(st.integers(1, 6), st.integers(0, 6), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_uniforms_do_not_depend_on_how_a_batch_is_split(first, second, D, N, S):
    whole = Generator(9).at(3, example=40).uniform((S, first + second, D, N))
    parts = [Generator(9).at(3, example=40).uniform((S, first, D, N)),
             Generator(9).at(3, example=40 + first).uniform((S, second, D, N))]
    assert (np.concatenate(parts, 1) == whole).all()


def test_generator_shapes_are_views_of_one_law():
    for shape in ((3, 2), (3, 2, 4), (3, 2, 4, 5)):
        u = Generator(9).uniform(shape)
        assert u.shape == shape and u.flags.c_contiguous
    assert (Generator(9).uniform((3, 2, 4)) == Generator(9).uniform((3, 2, 4, 1))[..., 0]).all()
    assert (Generator(9).uniform((3, 2)) == Generator(9).uniform((3, 2, 1, 1))[..., 0, 0]).all()
    assert (Generator(9).uniform((3, 2), np.float32) == Generator(9).uniform((3, 2))).all()


def test_generator_successive_calls_advance_and_never_repeat():
    g = Generator(1)
    calls = [g.uniform((s, 2, 3)) for s in (1, 4, 5, 3, 1)]
    assert g.draw == 1 + 1 + 2 + 1 + 1
    wide = Generator(1)
    wide.uniform((3, 2, 4, 5))
    assert wide.draw == 4                       # fifteen words are four blocks
    values = np.concatenate([c.ravel() for c in calls])
    assert len(set(values)) == values.size
    assert (calls[2] == uniform(1, rng.LATENT, 0, 0, 2, (5, 2, 3, 1))[..., 0]).all()
    assert (g.at(0).uniform((1, 2, 3)) == calls[0]).all() and g.draw == 6


def test_generator_words_differ_by_seed_stream_step_example_and_latent():
    base = [Generator(s, stream).at(step, example).uniform((4, 3, 5)) for s, stream, step, example in
            [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 3)]]
    values = np.concatenate([u.ravel() for u in base])
    assert len(set(values)) >= values.size - 1  # 300 values on a grid of 2^23
    assert Generator(4).stream == rng.LATENT and len({rng.INIT, rng.SHUFFLE, rng.BINARIZE, rng.LATENT,
                                                      rng.TEST_BINARIZE, rng.TEST_LATENT, rng.VALIDATION, rng.PRIOR,
                                                      rng.STATIC}) == 9


def test_uniforms_are_uniform_and_uncorrelated():
    u = Generator(2).uniform((4, 5000, 2, 2)).reshape(4, 5000, 4)
    flat = u.transpose(1, 0, 2).reshape(5000, 16)                   # one column for each (sample, latent, number)
    counts = np.stack([np.bincount((column * 20).astype(int), minlength=20) for column in flat.T])
    assert ((counts - 250) ** 2 / 250).sum(1).max() < 70            # chi-square, 19 degrees: 70 has p = 1e-7
    correlation = np.corrcoef(flat.T) - np.eye(16)
    assert abs(correlation).max() < 6 / np.sqrt(5000)
    successive = np.corrcoef(flat[:-1, 0], flat[1:, 0])[0, 1]
    assert abs(successive) < 6 / np.sqrt(5000)


def test_permutation_is_a_random_order():
    g = Generator(3, rng.SHUFFLE)
    first, second = g.permutation(1000), g.permutation(1000)
    assert g.draw == 2
    for order in (first, second):
        assert (np.sort(order) == np.arange(1000)).all()
        close(np.corrcoef(order, np.arange(1000))[0, 1], 0.0, 0.2, 1)
    assert (first != second).mean() > 0.9 and (first == Generator(3, rng.SHUFFLE).permutation(1000)).all()
    assert (g.at(1).permutation(1000) != first).mean() > 0.9
    words = philox(0, np.arange(1000), 0, 0, 3, rng.SHUFFLE)
    assert first.tolist() == sorted(range(1000), key=lambda i: (words[0][i], words[1][i]))


def test_permutation_breaks_ties_by_the_next_word():
    n = 200_000                                 # some five pairs share their first word
    words = philox(0, np.arange(n), 0, 0, 3, rng.SHUFFLE)
    order = Generator(3, rng.SHUFFLE).permutation(n)
    first, second = words[0][order].astype(np.int64), words[1][order].astype(np.int64)
    tied = np.diff(first) == 0
    assert tied.any() and (np.diff(first) >= 0).all() and (np.diff(second)[tied] > 0).all()


def test_permutation_leaves_indices_of_the_same_words_in_their_order(monkeypatch):
    words = np.random.default_rng(0).integers(0, 5, (4, 300)).astype(np.uint32)
    monkeypatch.setattr(rng, "philox", lambda *counter_and_key: words)
    order = Generator(3, rng.SHUFFLE).permutation(300)
    assert order.tolist() == sorted(range(300), key=lambda i: (words[0][i], words[1][i]))


@pytest.mark.parametrize("options, message", [
    ({"seed": -1}, "seed must be between 0 and 2\\*\\*32 - 1, got -1"),
    ({"seed": 2 ** 32}, "seed must"), ({"seed": 0, "stream": -1}, "stream must"),
    ({"seed": 0, "step": -1}, "step must"), ({"seed": 0, "example": 2 ** 32}, "example must")])
def test_generator_refuses_numbers_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        Generator(**options)
    Generator(2 ** 32 - 1, 2 ** 32 - 1, step=2 ** 32 - 1, example=2 ** 32 - 1)
