"""Vector quantisation: who receives which gradient, codebooks and their averages, k-means, revival. Share: 1 s."""
import numpy as np
import pytest

from npdvae import latents, rng
from npdvae.latents.codebook import kmeans
from npdvae.latents.sphere import rotation_backward, unit_backward
from npdvae.rng import Generator
from npdvae.state import merge
from npdvae.step import step
from tests.checks import close
from tests.frozen import (
    OPS,
    PIXELS,
    B,
    Given,
    X,
    check_gradients,
    decoded_cost,
    log_prior,
    model_of,
    parameters,
    state_of,
)

BETA = 0.3


def vq(latents_=4, categories=3, size=2, **options):
    return latents.get("vq", latents=latents_, categories=categories, size=size, commitment=BETA, **options)


def norm(a):
    return np.sqrt((a * a).sum(-1, keepdims=True))


def table_of(d, levels, groups):
    return d % levels * groups + (d // levels if groups > 1 else 0)


def entries(params):
    """The codebooks [T, K, C], whatever they are made of."""
    if "latent.base" not in params:
        return params["latent.codebook"]
    return np.einsum("tkc,tcd->tkd", params["latent.base"], params["latent.transform"])


class Loops:
    """The quantisation of a batch by loops, with all that the surrogate holds fixed."""

    def __init__(self, latent, params, h, levels, cosine):
        self.levels, self.P, self.C = levels, latent.latents // levels, latent.size
        self.groups = len(entries(params)) // levels
        self.v = h.reshape(len(h), self.P, self.C)
        self.v = self.v / norm(self.v) if cosine else self.v
        self.codes = np.zeros((len(h), latent.latents), int)
        self.left = np.zeros((len(h), latent.latents, self.C))      # what each level quantises
        self.partial = np.zeros((len(h), latent.latents, self.C))   # the sum of the codes up to it
        for b, d in np.ndindex(self.codes.shape):
            e = entries(params)[table_of(d, levels, self.groups)]   # [K, C]
            before = self.partial[b, d - 1] if d % levels else 0
            self.left[b, d] = self.v[b, d // levels] - before
            self.codes[b, d] = ((self.left[b, d] - e) ** 2).sum(-1).argmin()
            self.partial[b, d] = before + e[self.codes[b, d]]
        self.q = self.partial.reshape(len(h), self.P, levels, self.C)[:, :, -1]     # [B, P, C]


def turn(h, q):
    """The matrix |q| / |h| R with R the rotation from h to q, by the plane they span."""
    a, b = h / norm(h), q / norm(q)
    w = b - a * (a @ b)
    w = w / norm(w)
    c, s = a @ b, np.sqrt(1 - (a @ b) ** 2)
    plane = np.outer(a, a) + np.outer(w, w)
    turned = c * plane + s * (np.outer(w, a) - np.outer(a, w))
    return np.linalg.norm(q) / np.linalg.norm(h) * (np.eye(len(h)) - plane + turned)


OPTIONS = [{}, {"codebook": "gradient"}, {"codebook": "simvq"}, {"rotation": True}, {"cosine": True}, {"grouped": True},
           {"levels": 2}, {"cosine": True, "codebook": "gradient", "rotation": True},
           {"levels": 2, "grouped": True, "codebook": "gradient", "prior": "learned"},
           {"levels": 4, "codebook": "simvq", "prior": "learned"}, {"levels": 2, "rotation": True, "size": 3},
           {"size": 1, "categories": 2, "codebook": "gradient", "grouped": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_vq_gradients_by_receiver(options):
    """The step is the derivative of the surrogate with the codes, the turn and what is stopped held fixed."""
    model = model_of(vq(**options))
    params, levels = parameters(model), options.get("levels", 1)
    got = step(model, params, X, Generator(3), state_of(model), kl_weight=0.2)
    fixed = Loops(model.latent, params, model.encoder.forward(params, X)[0], levels, "cosine" in options)
    assert len(np.unique(fixed.codes)) > 1
    turns = [[turn(v, q) for v, q in zip(*pair)] for pair in zip(fixed.v, fixed.q)] if "rotation" in options else None

    def surrogate(p):
        v = model.encoder.forward(p, X)[0].reshape(B, fixed.P, fixed.C)
        v = v / norm(v) if "cosine" in options else v
        z = np.einsum("bpij,bpj->bpi", np.array(turns), v) if "rotation" in options else v + (fixed.q - fixed.v)
        loss = decoded_cost(model, p, z.reshape(B, -1))
        for d in range(4):
            loss = loss + BETA * ((v[:, d // levels] - fixed.partial[:, d]) ** 2).sum(-1)
            if options.get("codebook", "ema") != "ema":
                e = entries(p)[table_of(d, levels, fixed.groups)]
                loss = loss + ((fixed.left[:, d] - e[fixed.codes[:, d]]) ** 2).sum(-1)
        return (loss - log_prior(p, fixed.codes)).mean() if "prior" in options else loss.mean()

    learns = options.get("codebook", "ema")
    if learns == "simvq":                       # the base has a derivative, and stays as it is all the same
        base = {"latent.base": params["latent.base"]}
        free = {k: p for k, p in params.items() if k not in base}
        check_gradients(lambda p: surrogate({**p, **base}), free, got.grads)
    else:
        check_gradients(surrogate, params, got.grads, without=["latent.codebook"] if learns == "ema" else [])
    prior = log_prior(params, fixed.codes) if "prior" in options else -4 * np.log(model.latent.categories)
    close(got.kl, -prior * np.ones(B), 1e-14)
    close(got.cost, decoded_cost(model, params, fixed.q.reshape(B, -1)), 1e-13)


def test_cost_never_reaches_codebook_and_prior_never_the_encoder():
    draw = np.random.default_rng(0)
    dz = draw.normal(size=(1, B, 8))
    for prior in ("uniform", "learned"):
        model = model_of(vq(codebook="gradient", prior=prior))
        params = parameters(model)
        h = draw.normal(size=(B, 8))
        _, kept = model.latent.forward(params, h, None)
        dh, grads = model.latent.backward(params, kept, np.ones((1, B)), dz)
        _, still = model.latent.backward(params, kept, 5 * np.ones((1, B)), 0 * dz)
        assert (grads["latent.codebook"] == still["latent.codebook"]).all() and grads["latent.codebook"].any()
        assert (dh == dz[0] + 2 * BETA * kept.errors.reshape(B, 8)).all()
    free = latents.get("vq", latents=4, categories=3, size=2, commitment=0.0)
    dh, grads = free.backward(params, kept, np.ones((1, B)), 0 * dz)
    assert not dh.any() and not grads
    assert (free.backward(params, kept, np.ones((1, B)), dz, scale=0.5)[0] == dz[0] / 2).all()


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_residual_passes_dz_once(levels):
    """However many levels add up; others hand it on once a level."""
    latent = latents.get("vq", latents=4, categories=3, size=2, levels=levels, commitment=0.0)
    params, draw = parameters(model_of(latent)), np.random.default_rng(0)
    _, kept = latent.forward(params, draw.normal(size=(B, latent.width)), None)
    dz = draw.normal(size=(1, B, latent.width))
    assert (latent.backward(params, kept, None, dz)[0] == dz[0]).all()


@pytest.mark.parametrize("f, df, says, is_zero", [
    (lambda q: q ** 2, lambda q: 2 * q, "something", True),
    (lambda q: 3 * q - q ** 3, lambda q: 3 - 3 * q ** 2, "nothing", False)])
def test_straight_through_counterexamples(f, df, says, is_zero):
    """Codes -1 and 1: the mean cost of many h may not move where straight-through says so, and the other way round."""
    latent = latents.get("vq", latents=1, categories=2, size=1, commitment=0.0)
    params = {"latent.codebook": np.array([[[-1.0], [1.0]]])}
    h = np.linspace(-2, 3, 1000)[:, None]

    def mean(shift):
        return f(latent.rows(params, latent.forward(params, h + shift, None)[0])).mean()

    _, kept = latent.forward(params, h, None)
    dz = df(latent.rows(params, kept.codes[None]))                  # [1, 1000, 1]
    dh, _ = latent.backward(params, kept, None, dz)
    assert (abs(mean(0.5) - mean(0)) < 1e-12) == is_zero            # sums of a thousand equal terms
    assert (np.abs(dh).mean() > 0.5) == (says == "something") and bool(dh.any()) == (says == "something")


# ---- rotation -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("C", [2, 3, 7])
def test_rotation_maps_turns_and_scales(C):
    draw = np.random.default_rng(C)
    h, q, g = draw.normal(size=(3, 20, C))
    back = np.stack([rotation_backward(OPS, np.tile(unit, (20, 1)), h, q) for unit in np.eye(C)], 1)    # [20, C, C]
    ratio = norm(q) / norm(h)                                       # [20, 1]
    close(np.einsum("nij,nj->ni", back, h), q, 1e-13)               # column i of the adjoint is row i of the map
    close(np.linalg.det(back), ratio[:, 0] ** C, 1e-12)             # a rotation, no reflection
    turned = rotation_backward(OPS, g, h, q)
    close(norm(turned), ratio * norm(g), 1e-13)
    close((turned * h).sum(-1) / norm(h)[:, 0], (ratio * g * q / norm(q)).sum(-1), 1e-13)      # its angle to h
    close(turned, np.stack([turn(a, b).T @ c for a, b, c in zip(h, q, g)]), 1e-12)
    close(rotation_backward(OPS, g, h, h), g, 1e-14)


def test_rotation_of_opposite_vectors_is_straight_through():
    g, h = np.random.default_rng(0).normal(size=(2, 4, 3))
    assert (rotation_backward(OPS, g, h, -2 * h) == g).all()
    beside = -2 * h + 0.01 * norm(h) * [1, -2, 1]                   # cosine above -1 + 1e-6
    assert not np.allclose(rotation_backward(OPS, g, h, beside), g)
    assert np.isfinite(rotation_backward(OPS, g, 0 * h, h)).all() and np.isfinite(unit_backward(OPS, g, 0 * h)).all()


# ---- moving averages -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"grouped": True}, {"levels": 2, "grouped": True}, {"cosine": True}], ids=str)
def test_ema_is_a_gradient_step(options):
    """Of rate (1 - decay) / (2 size) on the batch mean of the codebook loss; by the published recursion besides."""
    latent, by_gradient = vq(decay=0.9, **options), vq(codebook="gradient", **options)
    model = model_of(latent)
    params, state = parameters(model), state_of(model)
    h = model.encoder.forward(params, X)[0]
    _, kept = latent.forward(params, h, None, state)
    _, new = latent.advance(params, kept, None, None, state)
    got, e = latent.refresh(params, new)["latent.codebook"], params["latent.codebook"]
    _, grads = by_gradient.backward(params, kept, None, np.zeros((1, B, latent.width)), scale=1 / B)
    expected = e - 0.1 / (2 * new["size"][..., None]) * grads["latent.codebook"]
    close(got, expected / norm(expected) if "cosine" in options else expected, 1e-13)

    levels = options.get("levels", 1)
    fixed = Loops(latent, params, h, levels, "cosine" in options)
    size, sums = 0.9 * state["size"], 0.9 * state["size"][..., None] * e
    for b, d in np.ndindex(B, 4):
        at = table_of(d, levels, fixed.groups), fixed.codes[b, d]
        size[at] += 0.1 / B
        sums[at] += 0.1 / B * fixed.left[b, d]
    close(new["size"], size, 1e-13)
    close(new["sums"], sums, 1e-13)


def test_first_sizes_are_each_codes_share_of_the_vectors():
    for options, share in (({}, 4 / 3), ({"grouped": True}, 1 / 3), ({"levels": 2}, 2 / 3)):
        state = vq(**options).init_state(None, 0)
        assert (state["size"] == share).all() and not state["sums"].any()
    assert vq(codebook="gradient").init_state(None, 0) is None and vq(codebook="simvq").init_state(None, 0) is None


def test_ema_of_microbatches_equals_the_batchs():
    model = model_of(vq(levels=2))
    params, state = parameters(model), state_of(model)
    whole = step(model, params, X, None, state)
    parts = [step(model, params, X[i:j], None, state, scale=1 / B) for i, j in ((0, 2), (2, 5))]
    merged = merge([(parts[0].state, 2 / 5), (parts[1].state, 3 / 5)])
    for k, v in whole.state.items():
        close(merged[k], v, 1e-13)
    for k, v in whole.grads.items():
        close(parts[0].grads[k] + parts[1].grads[k], v, 1e-13)


def test_step_quantises_with_the_codebook_before_the_update():
    model = model_of(vq(decay=0.01))
    params, state = parameters(model), state_of(model)
    before = {k: v.copy() for k, v in {**params, **state}.items()}
    got = step(model, params, X, None, state)
    close(got.cost, step(model, params, X, None, state).cost, 0)
    assert all((v == before[k]).all() for k, v in {**params, **state}.items())      # nothing is changed in place
    after = model.latent.refresh(params, got.state)
    assert np.abs(after["latent.codebook"] - params["latent.codebook"]).max() > 0.1


def test_ema_leaves_unused_codes():
    """Where Laplace smoothing would pull them to the origin, and sums / size end as 0 / 0."""
    latent = vq(1, 3, 2, decay=0.5)
    params = {"latent.codebook": np.array([[[1.0, 0], [0, 1], [50, 60]]], np.float32)}
    state, h = latent.init_state(None, 0), np.float32([[1.1, 0], [0, 1.2]])
    for _ in range(1200):
        _, kept = latent.forward(params, h, None, state)
        _, state = latent.advance(params, kept, None, None, state)
        params = latent.refresh(params, state)
    assert params["latent.codebook"].dtype == np.float32
    close(params["latent.codebook"][0], np.float32([[1.1, 0], [0, 1.2], [50, 60]]), 1e-7)   # of float32
    assert (params["latent.codebook"][0, 2] == [50, 60]).all() and state["size"][0, 2] == 0
    for size, moves in ((1e-6, False), (2e-6, True)):
        there = {"size": np.full((1, 3), size), "sums": np.ones((1, 3, 2))}
        assert (latent.refresh(params, there)["latent.codebook"] == params["latent.codebook"]).all() != moves


@pytest.mark.parametrize("options", [{}, {"grouped": True}, {"levels": 2}, {"levels": 2, "grouped": True}], ids=str)
def test_revived_code_is_a_row_of_h(options):
    """Of its own level and group; the size becomes the mean, and codes in use keep theirs."""
    levels, grouped = options.get("levels", 1), "grouped" in options
    latent = vq(revive=0.3, **options)
    params = {"latent.codebook": np.float32(np.random.default_rng(1).normal(size=latent.book.shape))}
    T, K, C = latent.book.shape
    state = latent.init_state(None, 0)
    state["size"][:, 1] = 1e-3                                      # below 0.3 of the mean whatever the batch counts
    params["latent.codebook"][:, 1] += 1000                         # and never chosen
    h = np.random.default_rng(2).normal(size=(B, latent.width)).astype(np.float32)
    u = np.random.default_rng(3).random(T * K)
    _, kept = latent.forward(params, h, Given(u), state)
    _, new = latent.advance(params, kept, None, None, state)
    e = latent.refresh(params, new)["latent.codebook"]
    _, plain = vq(**options).advance(params, kept, None, None, state)
    fixed, P = Loops(latent, params, h.astype(float), levels, False), 4 // levels
    left = np.concatenate([kept.v[:, :, None], kept.errors[:, :, :-1]], 2)      # [B, P, Q, C]
    close(left.reshape(B, 4, C).astype(float), fixed.left, 1e-6)    # float32 differences of numbers of a few units
    for t in range(T):
        level, g = t // (P if grouped else 1), t % (P if grouped else 1)
        n = int(u.reshape(T, K)[t, 1] * (B if grouped else B * P))
        row = left[n, g, level] if grouped else left[n // P, n % P, level]
        assert (e[t, 1] == row).all()
        assert new["size"][t, 1] == plain["size"][t].mean()
        alive = [k for k in range(K) if plain["size"][t, k] >= 0.3 * plain["size"][t].mean()]
        assert alive and all((new["sums"][t, k] == plain["sums"][t, k]).all() for k in alive)


def test_codes_of_less_than_the_share_of_the_mean_size_are_revived():
    book, vectors = vq(1, 4, 2).book, np.random.default_rng(0).normal(size=(1, 4, 2))
    size, sums = np.array([[1.9, 2.0, 3.0, 9.1]]), np.ones((1, 4, 2))           # mean 4
    new = book.revive({"size": size, "sums": sums}, 0.5, vectors)
    assert new["size"].tolist() == [[4, 2, 3, 9.1]]
    assert (new["sums"][0, 0] == 4 * vectors[0, 0]).all() and (new["sums"][0, 1:] == 1).all()


# ---- start -----------------------------------------------------------------------------------------------------------

def lloyd(h, rows, steps=10):
    """Centres by loops: the mean of the vectors nearest to each, or the centre itself."""
    e = h[rows].copy()
    for _ in range(steps):
        k = np.array([((v - e) ** 2).sum(-1).argmin() for v in h])
        e = np.array([h[k == i].mean(0) if (k == i).any() else e[i] for i in range(len(e))])
    return e


@pytest.mark.parametrize("options", [{}, {"grouped": True}, {"levels": 2}, {"levels": 2, "grouped": True}], ids=str)
def test_kmeans_starts_the_codebook(options):
    """Level by level, on what the levels before leave over."""
    latent, G = vq(**options), 4 // options.get("levels", 1) if "grouped" in options else 1
    params = latent.init(Generator(0, rng.INIT), np.float64)
    h = np.random.default_rng(4).normal(size=(40, latent.width))
    order = Generator(7, rng.INIT)
    got = latent.start(params, h, Generator(7, rng.INIT))["latent.codebook"]
    v = h.reshape(-1, G, 2)                                         # [40 P / G, G, C]
    for t in range(len(got)):
        some = v[:, t % G]
        expected = lloyd(some, order.permutation(len(some))[:3])
        close(got[t], expected, 1e-12)
        v[:, t % G] = some - expected[((some[:, None] - expected) ** 2).sum(-1).argmin(-1)]
    assert (params["latent.codebook"] == latent.init(Generator(0, rng.INIT), np.float64)["latent.codebook"]).all()
    assert latent.starts_from == 2000 and vq(start="uniform").starts_from == 0


class InOrder:
    """A generator whose permutation is none."""

    def permutation(self, n):
        return np.arange(n)


def test_kmeans_takes_ten_steps():
    h = np.random.default_rng(6).normal(size=(1000, 2))
    after = [lloyd(h, np.arange(9), steps) for steps in (9, 10, 11)]
    assert (after[0] != after[1]).any() and (after[1] != after[2]).any()
    close(kmeans(vq(1, 9, 2).book, h, InOrder()), after[1], 1e-12)


@pytest.mark.parametrize("h, centres", [([1, 1, 5, 7], [1, 1, 6]), ([0, 4, 5, 20], [3, 20]), ([2, 3], [2, 3])])
def test_kmeans_keeps_empty_clusters_and_moves_those_of_one(h, centres):
    with np.errstate(all="raise"):
        e = kmeans(vq(1, len(centres), 1).book, np.array(h, float)[:, None], InOrder())
    close(e[:, 0], np.array(centres, float), 1e-15)


def test_kmeans_needs_enough_vectors_and_stays_on_the_sphere():
    book = vq(1, 3, 1).book
    with pytest.raises(ValueError, match="start=kmeans needs"):
        kmeans(book, np.ones((2, 1)), Generator(0))
    on_sphere = vq(1, 3, 2, cosine=True)
    h = np.random.default_rng(0).normal(size=(50, 2))
    e = on_sphere.start(on_sphere.init(Generator(0), np.float64), h, Generator(0))["latent.codebook"]
    close(norm(e), np.ones((1, 3, 1)), 1e-14)


def test_fresh_codebooks_fill_their_ranges():
    shape = (1, 200, 50)
    book = latents.get("vq", latents=1, categories=200, size=50).init(Generator(0, rng.INIT), np.float32)
    assert book["latent.codebook"].shape == shape and book["latent.codebook"].dtype == np.float32
    u = Generator(0, rng.INIT).uniform((2, *shape))
    close(book["latent.codebook"], ((2 * u[0] - 1) / 200).astype(np.float32), 0)
    simvq = latents.get("vq", latents=1, categories=200, size=50, codebook="simvq")
    made = simvq.init(Generator(0, rng.INIT), np.float64)
    close(made["latent.base"] * np.sqrt(50), np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * u[1]), 1e-13)
    w = made["latent.transform"] * np.sqrt(50)
    assert abs(made["latent.base"].std() * np.sqrt(50) - 1) < 0.03 and w.shape == (1, 50, 50)       # 10,000 numbers
    assert 0.99 < w.max() <= 1 and -1 <= w.min() < -0.99 and abs(w.std() * np.sqrt(3) - 1) < 0.03
    unit = latents.get("vq", latents=1, cosine=True).init(Generator(0, rng.INIT), np.float64)["latent.codebook"]
    close(norm(unit), np.ones((1, 8, 1)), 1e-14)


@pytest.mark.parametrize("options, message", [
    ({"size": 0}, "size must be at least 1"), ({"codebook": "sgd"}, "codebook must be one of ema, gradient, simvq"),
    ({"commitment": -1.0}, "commitment must not be negative"), ({"decay": 1.0}, "decay must be between 0 and 1"),
    ({"decay": 0.0}, "decay must be"), ({"start": "random"}, "start must be one of kmeans, uniform"),
    ({"revive": 1.0}, "revive must be a share"), ({"revive": -0.1}, "revive must be a share"),
    ({"levels": 3}, "levels must divide latents = 4"), ({"levels": 0}, "levels must divide"),
    ({"revive": 0.1, "codebook": "gradient"}, "revive reads the sizes"), ({"cosine": True, "levels": 2}, "one level"),
    ({"cosine": True, "codebook": "simvq"}, "exclude each other"), ({"rotation": True, "size": 1}, "size 2 or more"),
    ({"colour": 1}, "no option 'colour'"), ({"size": 2.0}, "size must be a whole number")])
def test_vq_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        latents.get("vq", latents=4, **options)


def test_vq_is_described_by_its_options():
    latent = latents.get("vq", latents=4)
    assert latent.spec() == {"prior": "uniform", "settings": {
        "size": 8, "codebook": "ema", "commitment": 0.25, "decay": 0.99, "revive": 0.0, "cosine": False,
        "grouped": False, "levels": 1, "rotation": False}}
    assert (latent.width, latent.features, latent.categories) == (32, 32, 8) and latent.one_codebook
    assert latent.divisible and not vq(revive=0.1).divisible and not vq(grouped=True).one_codebook
    assert not vq(levels=2).one_codebook and vq(levels=2).width == PIXELS - 2 and not latent.weighs_kl
