"""The ways to -log p(x | z): each z, all codes decoded once, compiled workers; and who takes which. Share: 10 s."""
import json
import threading

import numpy as np
import pytest

from npdvae import costs, evaluate, evaluation, latents, likelihoods, rng, train
from npdvae.data.dataset import Dataset
from npdvae.fused import forward, listed, workers
from npdvae.model import DiscreteVAE
from npdvae.run import Run

f4, P, B = np.float32, 21, 13


def problem(latent="categorical", likelihood="bernoulli", hidden=(20, 11), activation="relu", dtype=f4, **options):
    """Model, parameters of about the size of trained ones, and images of zeros and ones."""
    part = latents.get(latent, **{"latents": 3, **options})
    model = DiscreteVAE(P, hidden, part, likelihoods.get(likelihood), activation)
    draw = np.random.default_rng(1)
    params = {k: draw.normal(0, 0.5, v.shape).astype(dtype) for k, v in model.init(rng.Generator(0), f4).items()}
    return model, params, (draw.random((B, P)) < 0.3).astype(dtype)


def drawn(model, params, x, samples):
    """z [S, B, ...] from q."""
    generator = rng.Generator(5, rng.TEST_LATENT, draw_uniform=model.ops.uniform)
    return model.latent.sample(params, model.encode(params, x), generator, samples)


def doubles(params):
    return {k: v.astype("f8") for k, v in params.items()}


def bound(model, params, x, samples, **options):
    data = Dataset("test", x.astype(f4), x[:1].astype(f4), (1, P), 1)
    split = evaluation.Split(data, data.train, "none", dtype=x.dtype)
    return evaluation.importance_weighted(model, params, split, samples, **options)


CODES = {"categorical": dict(categories=4), "learned": dict(categories=4, prior="learned"),
         "vq": dict(latent="vq", categories=5), "fsq": dict(latent="fsq", categories=3),
         "grey": dict(likelihood="gaussian"), "no hidden layer": dict(hidden=())}


@pytest.mark.parametrize("case", CASES := list(CODES))
def test_costs_looked_up_are_those_of_each(case, monkeypatch):
    """In float64, to rounding of sums of 21 pixels; codes in more than one tile."""
    monkeypatch.setattr(costs, "TILE", 7)
    model, params, x = problem(**CODES[case], dtype=np.float64)
    z = drawn(model, params, x, 4)
    expected = costs.of_each(model, params)(x)(z)
    assert np.abs(costs.of_codes(model, params)(x)(z) - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES)
def test_importance_weighted_bound_is_that_of_each_z_whichever_way(case, monkeypatch):
    """Images in more than one batch, samples in more than one chunk, one of them short; softened codes too."""
    model, params, x = problem(**CODES[case], dtype=np.float64)
    model.latent, x, seen = model.latent.soft(0.5) or model.latent, np.tile(x, (3, 1)), []
    with monkeypatch.context() as patch:
        patch.setattr(costs, "few_codes", lambda model, samples: False)
        expected = bound(model, params, x, 7, chunk=3)
    monkeypatch.setattr(costs, "images", lambda model: 16)
    monkeypatch.setattr(costs, "few_codes", lambda model, samples: seen.append(samples) or True)
    monkeypatch.setattr(costs, "cost_of", None)                     # no z is decoded by itself
    assert abs(bound(model, params, x, 7, chunk=3) - expected) <= 1e-12 * abs(expected)
    assert seen == [7]


def test_a_table_is_for_codes_that_are_fewer_than_what_samples_cost():
    model = problem(categories=4)[0]            # 64 codes of 21 pixels, 12*11 + 11*20 + 20*21 products a sample
    assert [costs.few_codes(model, samples) for samples in (1, 2)] == [False, True]
    big = DiscreteVAE(784, (512, 256), latents.get("categorical", latents=4, categories=8))
    assert [costs.few_codes(big, samples) for samples in (5, 6)] == [False, True]
    for D, few in ((4, True), (5, False)):      # 8^5 costs of an image, of a thousand images: more than 2^23
        assert costs.few_codes(DiscreteVAE(784, (512,), latents.get("categorical", latents=D, categories=8)),
                               10 ** 9) == few
    assert [costs.images(problem(categories=K, latents=4)[0]) for K in (8, 9)] == [2000, 2 ** 23 // 9 ** 4]
    for K, few in ((8388, True), (8389, False)):                    # costs of a thousand images
        assert costs.few_codes(problem(categories=K, latents=1)[0], 10 ** 9) == few
    assert costs.few_codes(problem(categories=4, latents=1, hidden=())[0], 1)   # as much work either way
    assert not costs.few_codes(problem("gaussian")[0], 10 ** 9)     # which has none


FORWARD = {
    "codes": dict(categories=4), "floats": dict(latent="gaussian"), "vectors": dict(latent="vq", categories=5),
    "grey": dict(latent="gaussian", likelihood="gaussian"), "grey codes": dict(likelihood="gaussian"),
    "tanh": dict(activation="tanh"), "leaky": dict(activation="leaky_relu", hidden=(40, 33, 9)),
    "one layer": dict(hidden=(17,)), "no hidden layer": dict(hidden=()), "many categories": dict(categories=70),
    "one latent": dict(latents=1, categories=9),
}


@pytest.mark.parametrize("rows", [8, 2000])     # of a call: two images and a last one alone, and all
@pytest.mark.parametrize("case", FORWARD)
def test_costs_of_workers_err_no_more_than_readable_ones(case, rows, monkeypatch):
    monkeypatch.setattr(forward, "ROWS", rows)
    model, params, x = problem(**FORWARD[case])
    decoder = forward.Forward(model, params)
    for samples in (4, 1, 9):                   # other shapes in between, and more than the rows of a call
        z = drawn(model, params, x, samples)
        expected = costs.of_each(model, doubles(params))(x.astype("f8"))(z if z.dtype.kind == "i" else z.astype("f8"))
        readable, found = costs.of_each(model, params)(x)(z), decoder(x)(z)
        assert found.shape == expected.shape == (samples, B) and found.dtype == f4
        allowed = 2 * np.abs(readable - expected).max() + 1e-6 * np.abs(expected).max()     # 8 roundings of the largest
        assert np.abs(found - expected).max() <= allowed
        assert decoder.batch == max(1, rows // samples)
        assert decoder.costs_there == (case not in ("grey", "grey codes", "no hidden layer"))


def test_what_workers_cannot_decode_is_said(monkeypatch):
    model = problem(hidden=(5,), activation="tanh")[0]
    assert forward.reason_undecoded(model, f4) is None
    assert forward.reason_undecoded(model, np.dtype("f8")) == "float64 arithmetic"
    with monkeypatch.context() as patch:
        patch.setattr(forward, "NETWORKS", ("other",))
        assert forward.reason_undecoded(model, f4) == "network mlp, activation tanh"
    monkeypatch.setattr(model.decoder, "activation", "sine")
    assert forward.reason_undecoded(model, f4) == "network mlp, activation sine"
    monkeypatch.setattr(forward.target, "reason_unfit", lambda: "none here")
    assert forward.reason_undecoded(model, f4) == "none here"


def test_costs_of_workers_are_the_same_bits_for_any_number_of_them():
    model, params, x = problem(hidden=(70, 40))
    z = drawn(model, params, x, 6)
    found = [forward.Forward(model, params, n)(x)(z) for n in (1, 2, 3)]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_bound_by_workers_is_the_readable_one():
    """7 samples by threes; a mean of 13 sums of float32, whose readable bound errs by 1e-6 of it."""
    model, params, x = problem(categories=40)
    expected = bound(model, params, x, 7, chunk=3)
    assert abs(bound(model, params, x, 7, chunk=3, way=forward.Forward) - expected) <= 2e-6 * abs(expected)


def test_codes_that_are_no_category_are_refused():
    model, params, x = problem(categories=4)
    with pytest.raises(ValueError, match=r"codes must be in \[0, 4\)"):
        forward.Forward(model, params)(x)(np.full((2, B, 3), 4))


def images(n, density=0.2):
    """Zeros and ones, among them an image of zeros alone."""
    x = (np.random.default_rng(3).random((n, P)) < density).astype(f4)
    x[n // 2] = 0
    return x


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_costs_by_lists_of_ones_are_the_products(threads):
    """Tiles of which some are not full, one after another; a sum of 21 numbers about 1 may miss by 8 roundings."""
    x, draw, found = images(37), np.random.default_rng(4), listed.Listed(images(37), 150, threads)
    for C in (150, 3, 131):
        a = draw.normal(size=(C, 1, P)).astype(f4)
        expected = np.logaddexp(0, a[:, 0].astype("f8")).sum(-1)[:, None] - a[:, 0].astype("f8") @ x.T
        cost = found(a)
        for here in (slice(0, 20), slice(20, 40)):
            assert cost(here).shape == expected[:, here].shape and cost(here).dtype == f4
            assert np.abs(cost(here) - expected[:, here]).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_log_prob_by_lists_of_ones_is_the_readable_one(prior):
    """64 codes by tens, images by fives; float32 against float64."""
    model, params, _ = problem(categories=4, prior=prior)
    x = images(12)
    expected = evaluation.log_prob(model, doubles(params), x.astype("f8"))
    found = evaluation.log_prob(model, params, x, 10, 5, listed.shared)
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("x", [images(9), np.zeros((3, P), f4)], ids=["sparse", "empty"])
def test_images_of_few_ones_are_lists(x):
    model, params, _ = problem(categories=4)
    assert type(listed.shared(model, params, x, 10)) is listed.Listed
    allowed = 2e-6 * evaluation.log_prob(model, params, x).max()
    assert np.abs(evaluation.log_prob(model, params, x, 10, 2, listed.shared)
                  - evaluation.log_prob(model, params, x)).max() <= abs(allowed)


@pytest.mark.parametrize("x", [images(9) / 2, images(9, 0.9), images(9)[:0], -images(9), 2 * images(9, 0.1)],
                         ids=["grey", "dense", "none", "negative", "two"])
def test_other_images_are_no_lists(x, monkeypatch):
    monkeypatch.setattr(listed, "Listed", None)
    model, params, _ = problem(categories=4)
    assert np.array_equal(evaluation.log_prob(model, params, x, way=listed.shared),
                          evaluation.log_prob(model, params, x))


def test_log_prob_of_codes_hundreds_of_nats_apart():
    model, params, x = problem(categories=4, dtype=np.float64)
    params = {k: v * (30 if k.startswith("decoder.2") else 1) for k, v in params.items()}
    cost = costs.of_each(model, params)(x)(np.repeat(model.latent.codes()[:, None], B, 1))      # [64, B]
    assert np.ptp(cost, 0).min() > 200
    expected = np.logaddexp.reduce(-cost) - 3 * np.log(4)
    assert np.abs(evaluation.log_prob(model, params, x, 10) - expected).max() <= 1e-13 * np.abs(expected).max()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_workers_end_with_whatever_ends_the_evaluation(error, monkeypatch):
    model, params, x = problem(categories=40)
    before, run = threading.active_count(), workers.Workers.run

    def interrupted(self, end):
        run(self, end)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(workers.Workers, "run", interrupted)
        with pytest.raises(error):
            bound(model, params, x, 7, way=forward.Forward)
    assert threading.active_count() == before
    assert np.isfinite(bound(model, params, x, 7, way=forward.Forward))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert train.main(["--backend", "numba", "--epochs", "1", "--hidden", "32", "--latents", "8", "--categories", "8",
                       "--estimator", "straight_through", "--no-figures", "--out", str(folder)]) == 0
    return Run.load(folder)


def test_run_takes_workers_where_there_is_much_to_decode(run, monkeypatch):
    products = 64 * 32 + 32 * 64
    enough = int(costs.MANY // (100 * products)) + 1
    assert costs.products(run.model) == products
    assert [run.way(n, 100) for n in (enough - 1, enough)] == [costs.of_each, forward.Forward]
    with monkeypatch.context() as patch:
        patch.setattr(run.config, "backend", "numpy")
        assert run.way(enough, 100) is costs.of_each
    with monkeypatch.context() as patch:
        patch.setattr(run, "dtype", np.dtype("f8"))
        assert run.way(enough, 100) is costs.of_each
    monkeypatch.setattr(costs, "few_codes", lambda model, samples: True)
    assert run.way(enough, 100) is costs.of_each


def test_run_lists_ones_where_there_are_many_codes(run, monkeypatch):
    assert run.shared(10 ** 6) is costs.shared                      # of 8^8 codes, which nobody enumerates
    monkeypatch.setattr(run.model.latent, "latents", 4)
    enough = int(costs.MANY // (8 ** 4 * 64)) + 1
    assert [run.shared(n) for n in (enough - 1, enough)] == [costs.shared, listed.shared]
    assert run.shared(enough, 8 ** 4 - 1) is costs.shared
    monkeypatch.setattr(run.config, "likelihood", "gaussian")
    assert run.shared(enough) is costs.shared


def test_evaluate_command_says_the_same_by_workers(run, monkeypatch, tmp_path):
    found = []
    for many in (np.inf, 0):
        monkeypatch.setattr(costs, "MANY", many)
        assert evaluate.main([str(run.folder), "--samples", "15", "--json", str(tmp_path / "e.json")]) == 0
        found.append(json.loads((tmp_path / "e.json").read_text()))
    a, b = (f.pop("importance_weighted_bound") for f in found)
    assert found[0] == found[1] and a != b and abs(a - b) <= 2e-6 * abs(a)      # as above
