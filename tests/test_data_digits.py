"""The embedded digits, the Dataset and its baselines. Share of the suite: 4 s (scikit-learn's import)."""
import dataclasses
import hashlib
import math

import numpy as np
import pytest

from npdvae import data, rng
from npdvae.data import build_digits, digits
from npdvae.data.baselines import collapsed_baseline, irreducible_cost
from npdvae.data.binarize import binarize, prepare


def test_digits_equal_scikit_learns_copy(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn holds the source of the embedded digits")
    for ours, theirs in zip(digits.read(), build_digits.from_sklearn()):
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)
    build_digits.main(tmp_path / "rebuilt.npz")
    with np.load(tmp_path / "rebuilt.npz") as rebuilt:
        np.testing.assert_array_equal(rebuilt["images"], digits.read()[0])


def test_digits_are_pinned():
    images, labels = digits.read()
    assert images.shape == (1797, 64) and images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert hashlib.sha256(images.tobytes()).hexdigest().startswith("8f26b2bd9d135c25")


def test_digits_split_is_a_fixed_permutation():
    order = digits.split()
    assert sorted(order) == list(range(1797)) and not np.array_equal(order, np.arange(1797))
    dataset = data.load("digits")
    assert dataset.train.shape == (1500, 64) and dataset.test.shape == (297, 64) and dataset.pixels == 64
    images, labels = digits.read()
    np.testing.assert_array_equal(np.concatenate([dataset.train, dataset.test]), images[order])
    np.testing.assert_array_equal(np.concatenate([dataset.train_labels, dataset.test_labels]), labels[order])
    assert hashlib.sha256(dataset.train.tobytes()).hexdigest().startswith("6ba87ef115f3fb13")


def test_to_probabilities_is_value_over_levels():
    dataset = data.load("digits")
    p = dataset.to_probabilities(dataset.train[:9])
    assert p.dtype == np.float32
    np.testing.assert_array_equal(p, dataset.train[:9] / np.float32(16))
    assert dataset.to_probabilities(dataset.train[:9], np.float64).dtype == np.float64


def test_collapsed_baseline_is_the_cost_of_the_pixel_means():
    dataset = prepare(data.load("digits"), "threshold", 0)
    mean = np.clip(dataset.train.mean(0), 1 / 3000, 1 - 1 / 3000)
    expected = np.mean([-sum(math.log(m) if x else math.log1p(-m) for m, x in zip(mean, image))
                        for image in dataset.test])
    assert collapsed_baseline(dataset.train, dataset.test) == pytest.approx(expected, rel=1e-12)   # order of summation
    assert collapsed_baseline(dataset.train, dataset.test) == pytest.approx(24.305, abs=1e-3)      # the pinned anchor


def test_collapsed_baseline_of_grey_images_is_the_expectation_over_binarizations():
    dataset = data.load("digits")
    grey = collapsed_baseline(dataset.train, dataset.test, 16)
    floats = dataset.to_probabilities(dataset.train, np.float64), dataset.to_probabilities(dataset.test, np.float64)
    assert collapsed_baseline(*floats) == pytest.approx(grey, rel=1e-12)
    assert grey == pytest.approx(26.944, abs=1e-3)
    assert math.isfinite(collapsed_baseline(np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)))


def test_irreducible_cost_is_the_entropy_of_the_pixels():
    assert irreducible_cost(np.full((3, 5), 0.5)) == pytest.approx(5 * math.log(2), rel=1e-15)
    assert irreducible_cost(np.array([[0, 255, 0]], np.uint8), 255) == 0
    dataset = data.load("digits")
    assert irreducible_cost(dataset.test, 16) == pytest.approx(
        irreducible_cost(dataset.test / 16, chunk=7), rel=1e-12)


def test_hold_out_splits_at_random_without_loss():
    rows = np.arange(50, dtype=np.uint8)[:, None]
    train, held = data.hold_out(rows, 0.2, rng.Generator(0, rng.VALIDATION))
    assert len(held) == 10 and sorted(np.concatenate([train, held]).ravel()) == list(range(50))
    assert not np.array_equal(held, data.hold_out(rows, 0.2, rng.Generator(1, rng.VALIDATION))[1])


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 0.001, 0.999, float("nan")])
def test_hold_out_refuses_empty_parts(fraction):
    with pytest.raises(ValueError, match="validation"):
        data.hold_out(np.zeros((50, 1), np.uint8), fraction, rng.Generator(0, rng.VALIDATION))


@pytest.mark.parametrize("change, message", [
    ({"train": np.zeros((3, 63), np.uint8)}, "train images have 63 pixels, expected 8 x 8 = 64"),
    ({"test": np.zeros((0, 64), np.uint8)}, r"test must be images in rows \[N, P\], got shape \[0, 64\]"),
    ({"test": np.zeros((3, 64), np.float32)}, "train is uint8 and test is float32"),
    ({"train_labels": np.zeros(3, np.uint8)}, "train has 1500 images but 3 labels"),
])
def test_dataset_checks_its_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data.load("digits"), **change)


@pytest.mark.parametrize("name, message", [
    ("minst", "'minst' is no data set and no path .did you mean mnist..; expected digits, mnist"),
    ("/nowhere/at/all.npz", "file /nowhere/at/all.npz does not exist"),
    (__file__, "is not a .npz or .npy file; expected"),
])
def test_load_names_what_it_could_not_find(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_mnist_itself_has_its_known_constants():
    mnist = data.load("mnist")                                      # $NPDVAE_DATA or the cache; hashes are checked
    assert collapsed_baseline(mnist.train, mnist.train, 255) == pytest.approx(206.03, abs=0.005)
    assert collapsed_baseline(mnist.train, mnist.test, 255) == pytest.approx(205.80, abs=0.01)
    assert irreducible_cost(mnist.train, 255) == pytest.approx(45.76, abs=0.005)
    assert irreducible_cost(mnist.test, 255) == pytest.approx(45.53, abs=0.005)
    x = binarize(mnist.to_probabilities(mnist.train[:10_000]), "dynamic", rng.Generator(0, rng.BINARIZE))
    assert x.mean() == pytest.approx(0.131, abs=0.002)
