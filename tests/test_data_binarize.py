"""Binarization: the rule word by word, reproducibility, frequencies, modes. Share of the suite: 3 s."""
import dataclasses

import numpy as np
import pytest

from npdvae import data, rng
from npdvae.data.binarize import MODES, binarize, draw_ones, prepare


def loop_rule(p, seed, stream, step, example, draw):
    """The rule as its docstring says it, one pixel at a time."""
    ones = np.zeros(p.shape, p.dtype)
    for b in range(p.shape[0]):
        for j in range(p.shape[1]):
            word = rng.philox(step, example + b, j // 4, draw, seed, stream)[j % 4]
            u = np.float32((int(word) >> 9) + 0.5) * np.float32(2.0 ** -23)
            ones[b, j] = u < np.float32(p[b, j])
    return ones


def grey_images(B, P, seed=0, levels=255):
    """Images with many zeros, some full pixels and some grey ones: uint8 [B, P]."""
    draws = np.random.default_rng(seed)
    values = draws.integers(0, levels + 1, (B, P))
    kind = draws.random((B, P))
    return np.where(kind < 0.5, 0, np.where(kind < 0.6, levels, values)).astype(np.uint8)


@pytest.mark.parametrize("P", [1, 3, 4, 13, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binarize_equals_its_rule_pixel_by_pixel(P, dtype):
    p = grey_images(5, P).astype(dtype) / dtype(255)
    generator = rng.Generator(7, rng.BINARIZE, step=3, example=2 ** 32 - 6)
    x = binarize(p, "dynamic", generator)
    again = binarize(p, "dynamic", generator)                       # the next draw of the same step
    assert x.dtype == dtype and again.dtype == dtype
    np.testing.assert_array_equal(x, loop_rule(p, 7, rng.BINARIZE, 3, 2 ** 32 - 6, 0))
    np.testing.assert_array_equal(again, loop_rule(p, 7, rng.BINARIZE, 3, 2 ** 32 - 6, 1))


@pytest.mark.parametrize("levels", [1, 16, 255])
def test_float64_and_float32_runs_see_the_same_images(levels):
    images = grey_images(20, 64, levels=levels)
    images[0, 0] = levels                                           # never binary by chance
    dataset = data.Dataset("made", images, images, (8, 8), levels)
    x32 = binarize(dataset.to_probabilities(images), "dynamic", rng.Generator(1, rng.BINARIZE))
    x64 = binarize(dataset.to_probabilities(images, np.float64), "dynamic", rng.Generator(1, rng.BINARIZE))
    np.testing.assert_array_equal(x32, x64)


def test_binarize_does_not_depend_on_how_the_batch_is_split():
    p = grey_images(12, 30).astype(np.float32) / np.float32(255)
    whole = binarize(p, "dynamic", rng.Generator(5, rng.BINARIZE, step=9))
    parts = [binarize(p[i:i + 4], "dynamic", rng.Generator(5, rng.BINARIZE).at(9, example=i)) for i in (0, 4, 8)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("pixels", [28, 30])
def test_binarize_does_not_depend_on_how_rows_lie_in_memory(pixels):
    p = grey_images(12, pixels).astype(np.float32) / np.float32(255)
    whole = binarize(p, "dynamic", rng.Generator(5, rng.BINARIZE))
    for same in (np.asfortranarray(p), np.repeat(p, 2, 1)[:, ::2]):
        np.testing.assert_array_equal(binarize(same, "dynamic", rng.Generator(5, rng.BINARIZE)), whole)


def test_binarize_frequencies_are_the_probabilities():
    p = np.linspace(0, 1, 52, dtype=np.float32)[None].repeat(20_000, 0)
    mean = binarize(p, "dynamic", rng.Generator(0, rng.BINARIZE)).mean(0, dtype=np.float64)
    sigma = np.sqrt(p[0] * (1 - p[0]) / len(p))
    assert mean[0] == 0 and mean[-1] == 1
    assert np.all(np.abs(mean - p[0]) <= 5 * sigma)                 # fixed seed: a constant, not a gamble


def test_binarize_steps_seeds_and_streams_differ():
    p = np.full((4, 64), 0.5, np.float32)
    draws = [binarize(p, "dynamic", rng.Generator(s, stream, step=t)).tobytes()
             for s in (0, 1) for stream in (rng.BINARIZE, rng.TEST_BINARIZE) for t in (0, 1)]
    assert len(set(draws)) == len(draws)


def test_binarize_threshold_and_none():
    p = np.array([[0, 0.499, 0.5, 0.501, 1]], np.float32)
    np.testing.assert_array_equal(binarize(p, "threshold"), [[0, 0, 0, 1, 1]])
    assert binarize(p, "none") is p


@pytest.mark.parametrize("mode", MODES)
def test_binarize_leaves_binary_images_alone(mode):
    x = (np.random.default_rng(0).random((10, 13)) < 0.3).astype(np.float32)
    np.testing.assert_array_equal(binarize(x, mode, rng.Generator(0, rng.BINARIZE)), x)


def test_prepare_static_is_one_draw_per_image_of_the_whole_set():
    digits = data.load("digits")
    static = prepare(digits, "static", 11)
    assert static.binary and static.levels == 1 and set(np.unique(static.train)) == {0, 1}
    both = digits.to_probabilities(np.concatenate([digits.train, digits.test]))
    expected = binarize(both, "static", rng.Generator(11, rng.STATIC))
    np.testing.assert_array_equal(np.concatenate([static.train, static.test]), expected)
    assert not np.array_equal(static.train, prepare(digits, "static", 12).train)


def test_prepare_threshold_none_and_dynamic():
    digits = data.load("digits")
    np.testing.assert_array_equal(prepare(digits, "threshold", 0).test, digits.test > 8)
    assert prepare(digits, "none", 0) is digits and prepare(digits, "dynamic", 0) is digits
    binary = dataclasses.replace(digits, train=digits.train // 16, test=digits.test // 16, levels=1)
    assert prepare(binary, "static", 0) is binary


def test_unknown_mode_is_refused():
    for call in (lambda: binarize(np.zeros((1, 1)), "sometimes"), lambda: prepare(data.load("digits"), "sometimes", 0)):
        with pytest.raises(ValueError, match="unknown binarization 'sometimes', expected one of dynamic, static"):
            call()


def test_a_pixel_as_likely_as_its_number_is_off_and_draws_are_counted():
    """u < p, and not u = p; each call takes the next draw, the first of the first example unless told."""
    u = rng.to_uniform(np.stack(rng.philox(3, 0, np.arange(2), 0, 5, 6), -1), np.float32).reshape(1, 8)
    assert not draw_ones(u, 5, 6, 3).any() and draw_ones(np.nextafter(u, 1), 5, 6, 3).all()
    generator = rng.Generator(5, 6)
    for n in range(3):
        assert generator.draw == n
        binarize(np.full((2, 5), 0.5), "dynamic", generator)
    assert generator.draw == 3
