"""Continuous latents and likelihoods against torch.distributions, the same numbers in float64. Share: skipped, or 5 s.

Densities, KL and the gradients of `rsample` at the noise that PyTorch drew, by random cotangents. Closed forms agree to
1e-12: rounding of a few operations. PyTorch's derivative of a Gamma variate is an approximation of 5e-4 by its own
word.
"""
import numpy as np
import pytest

from npdvae import estimators, latents, likelihoods
from npdvae.latents.kumaraswamy import Kept as KumaraswamyKept
from npdvae.latents.location_scale import Kept
from npdvae.ops.gamma import log_gamma_variate
from npdvae.rng import Generator
from npdvae.verify.latent_noise import Nodes
from tests.checks import close

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributions")

S, B, D = 6, 5, 3
ZERO, ONE = torch.tensor([0.0, 1.0], dtype=torch.float64)
APPROXIMATE = 1e-3                              # of PyTorch's derivative of a Gamma variate, relative
TRIGAMMA = 1e-8                                 # of PyTorch's trigamma, off by 1e-9; ours has mpmath's digits


def tensor(a):
    return torch.tensor(np.asarray(a, np.float64), requires_grad=True)


def logistic(loc, scale):
    base = dist.Uniform(torch.zeros_like(loc), torch.ones_like(loc))
    return dist.TransformedDistribution(base, [dist.SigmoidTransform().inv, dist.AffineTransform(loc, scale)])


FAMILIES = {"gaussian": dist.Normal, "laplace": dist.Laplace, "logistic": logistic,
            "student_t": lambda loc, scale: dist.StudentT(torch.full_like(loc, 5.0), loc, scale),
            "uniform": lambda loc, scale: dist.Uniform(loc - scale, loc + scale)}
every = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture
def numbers():
    """Fresh random numbers, and PyTorch's from a seed of their own."""
    torch.manual_seed(0)
    return np.random.default_rng(0)


def parts(numbers, name, scale=0.5):
    """h [B, E] of a latent, its two halves as tensors, and the latent."""
    latent = latents.get(name, latents=D)
    h = scale * numbers.normal(size=(B, latent.width))
    return latent, h, *(tensor(half) for half in np.split(h, latent.width // D, -1))


# ---- location and scale ----------------------------------------------------------------------------------------------

@every
def test_log_ratio_agrees_with_torch_distributions(name, numbers):
    latent, h, loc, s = parts(numbers, name)
    theirs = FAMILIES[name](loc, s.exp())
    z = theirs.sample((S,))                                         # [S, B, D], inside the support
    expected = (dist.Normal(ZERO, ONE).log_prob(z) - theirs.log_prob(z)).sum(-1)
    close(latent.log_ratio({}, latent.posterior({}, h), z.numpy()), expected.detach().numpy(), 1e-12)


@every
def test_pathwise_gradient_agrees_with_torch_rsample(name, numbers):
    latent, h, loc, s = parts(numbers, name)
    z, dz = FAMILIES[name](loc, s.exp()).rsample((S,)), numbers.normal(size=(S, B, D))
    ((z * torch.tensor(dz)).sum() / S).backward()
    q, drawn = latent.posterior({}, h), z.detach().numpy()
    kept = Kept(q, (drawn - q.loc) / np.exp(q.s), drawn, q.kl)
    dh, _ = latent.backward({}, kept, None, dz, kl_weight=0.0)
    close(dh, np.concatenate([loc.grad.numpy(), s.grad.numpy()], -1), 1e-12)


@pytest.mark.parametrize("name, transform", [("gaussian", "none"), ("gaussian", "exp"), ("laplace", "none"),
                                             ("uniform", "none")])
def test_kl_and_its_gradient_agree_with_torch(name, transform, numbers):
    """Those that PyTorch has in closed form; the log-normal's is that of its logarithm."""
    latent, h, loc, s = parts(numbers, name)
    latent = latents.get(name, latents=D, transform=transform)
    prior = dist.LogNormal(ZERO, ONE) if transform == "exp" else dist.Normal(ZERO, ONE)
    theirs = dist.LogNormal(loc, s.exp()) if transform == "exp" else FAMILIES[name](loc, s.exp())
    kl = dist.kl_divergence(theirs, prior)                          # [B, D]
    kl.sum().backward()
    q = latent.posterior({}, h)
    close(q.kl, kl.detach().numpy(), 1e-12)
    kept = Kept(q, np.zeros((1, B, D)), np.zeros((1, B, D)), q.kl)
    dh, _ = latent.backward({}, kept, None, np.zeros((1, B, D)), kl_weight=1.0)
    close(dh, np.concatenate([loc.grad.numpy(), s.grad.numpy()], -1), 1e-12)


@every
def test_score_gradient_agrees_with_torch_log_prob(name, numbers):
    """mean_s (f_s - b_s) d log q(z_s), b_s the mean of the others; that of a uniform is refused."""
    if name == "uniform":
        return
    latent = latents.get(name, latents=D, gradient="score", samples=S)
    _, h, loc, s = parts(numbers, name)
    theirs, f = FAMILIES[name](loc, s.exp()), numbers.normal(size=(S, B))
    z = theirs.sample((S,))
    above = torch.tensor(f - (f.sum(0) - f) / (S - 1))
    ((above[..., None] * theirs.log_prob(z)).sum() / S).backward()
    q = latent.posterior({}, h)
    kept = Kept(q, (z.numpy() - q.loc) / np.exp(q.s), z.numpy(), q.kl)
    dh, _ = latent.backward({}, kept, f, None, kl_weight=0.0)
    close(dh, np.concatenate([loc.grad.numpy(), s.grad.numpy()], -1), 1e-11)        # logistic: exp of scores


# ---- other continuous latents ----------------------------------------------------------------------------------------

def test_kumaraswamy_agrees_with_torch(numbers):
    """Density, and the gradient of rsample at the uniforms that its x was made of: 1e-10, since these are recovered."""
    latent, h, log_a, log_b = parts(numbers, "kumaraswamy")
    theirs = dist.Kumaraswamy(log_a.exp(), log_b.exp())
    x, dx = theirs.rsample((S,)), numbers.normal(size=(S, B, D))
    ((x * torch.tensor(dx)).sum() / S).backward()
    q, at = latent.posterior({}, h), x.detach().numpy()
    close(latent.log_ratio({}, q, np.log(at)), -theirs.log_prob(x).sum(-1).detach().numpy(), 1e-10)
    kept = KumaraswamyKept(q, np.log1p(-at ** np.exp(q.log_a)), np.log(at), q.kl)       # y = 1 - x^a
    dh, _ = latent.backward({}, kept, None, dx, kl_weight=0.0)
    close(dh, np.concatenate([log_a.grad.numpy(), log_b.grad.numpy()], -1), 1e-10)


def test_gamma_agrees_with_torch(numbers):
    latent, h, log_alpha, s = parts(numbers, "gamma")
    theirs = dist.Gamma(log_alpha.exp(), (-s).exp())
    x, dx = theirs.rsample((S,)), numbers.normal(size=(S, B, D))
    ((x * torch.tensor(dx)).sum() / S).backward()
    q, at = latent.posterior({}, h), x.detach().numpy()
    prior = dist.Exponential(ONE)
    expected = (prior.log_prob(x) - theirs.log_prob(x)).sum(-1).detach().numpy()
    close(latent.log_ratio({}, q, np.log(at)), expected, 1e-12)
    u = torch.special.gammainc(log_alpha.exp(), x / s.exp()).detach().numpy()      # [S, B, D]
    _, slope = log_gamma_variate(np, np.broadcast_to(q.alpha, u.shape), u)
    dh = np.concatenate(latent.cost_gradient(Implied(q, np.log(at), slope), None, dx), -1)
    close(dh[:, :D], log_alpha.grad.numpy(), APPROXIMATE)
    close(dh[:, D:], s.grad.numpy(), 1e-12)
    log_alpha, s = tensor(h[:, :D]), tensor(h[:, D:])
    kl = dist.kl_divergence(dist.Gamma(log_alpha.exp(), (-s).exp()), prior)
    kl.sum().backward()
    close(q.kl, kl.detach().numpy(), 1e-12, max(1, np.abs(q.kl).max()))
    expected = np.concatenate([log_alpha.grad.numpy(), s.grad.numpy()], -1)
    close(np.concatenate(latent.kl_gradient(Implied(q, None, None)), -1), expected, TRIGAMMA)


class Implied:
    """What the backward of a Gamma latent reads."""

    def __init__(self, q, z, slope):
        self.q, self.z, self.slope, self.kl = q, z, slope, q.kl


def test_dirichlet_agrees_with_torch(numbers):
    """Density and KL to rounding; its path is another than ours, so gradients agree in the mean over the simplex."""
    latent, h, log_alpha = parts(numbers, "dirichlet")
    theirs, flat = dist.Dirichlet(log_alpha.exp()), dist.Dirichlet(torch.ones(D, dtype=torch.float64))
    x, q = theirs.sample((S,)), latent.posterior({}, h)
    close(latent.log_ratio({}, q, x.log().numpy()), (flat.log_prob(x) - theirs.log_prob(x)).detach().numpy(), 1e-11)
    kl = dist.kl_divergence(theirs, flat)
    kl.sum().backward()
    close(q.kl.sum(-1), kl.detach().numpy(), 1e-12)
    close(latent.kl_gradient(Implied(q, None, None))[0], log_alpha.grad.numpy(), TRIGAMMA)

    pair, n = latents.get("dirichlet", latents=2), 400
    u = (np.stack(np.meshgrid(*[np.arange(n) + 0.5] * 2), -1) / n).reshape(-1, 2)       # midpoints: 1e-3
    h, weights = np.tile([[0.4, -0.3]], (len(u), 1)), np.array([1.0, -2.0])
    z, kept = pair.forward({}, h, Nodes(u))
    dx = np.broadcast_to(weights * np.cos(3 * np.exp(z)), z.shape)  # f = sum w sin(3 x) / 3
    mean = pair.cost_gradient(kept, None, dx)[0].mean(0)
    x, alpha = torch.tensor(np.exp(z[0])), torch.tensor(np.exp(h))
    path = torch._dirichlet_grad(x, alpha, alpha.sum(-1, keepdim=True).expand_as(alpha)).numpy()
    g = path * (dx[0] - (np.exp(z[0]) * dx[0]).sum(-1, keepdims=True))
    close(mean, (g * np.exp(h)).mean(0), 5e-3)


# ---- likelihoods, codes ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, options, theirs", [
    ("bernoulli", {}, lambda a: dist.Bernoulli(logits=a)),
    ("continuous_bernoulli", {}, lambda a: dist.ContinuousBernoulli(logits=a)),
    ("gaussian", dict(sigma=0.3), lambda a: dist.Normal(a, 0.3))])
def test_likelihoods_agree_with_torch(name, options, theirs, numbers):
    """1e-11: below |a| = 0.02, where PyTorch takes a series, and above 15, where it clamps, it is left out."""
    size = np.exp(numbers.uniform(np.log(0.02), np.log(15), (S, B, 7)))
    a, x = tensor(size * numbers.choice([-1.0, 1.0], size.shape)), numbers.random((B, 7))
    x = (x < 0.5).astype(float) if name == "bernoulli" else x
    dcost, likelihood = numbers.normal(size=(S, B)), likelihoods.get(name, **options)
    cost = -theirs(a).log_prob(torch.tensor(x)).sum(-1)             # [S, B]
    (cost * torch.tensor(dcost)).sum().backward()
    close(likelihood.forward({}, a.detach().numpy(), x), cost.detach().numpy(), 1e-11)
    da, _ = likelihood.backward({}, dcost, a.detach().numpy(), x)
    close(da, a.grad.numpy(), 1e-11)
    close(likelihood.mean({}, a.detach().numpy()), theirs(a).mean.detach().numpy(), 1e-11)


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_categorical_kl_agrees_with_torch(prior, numbers):
    """By the posterior's logits and by the prior's."""
    latent = latents.get("categorical", latents=D, categories=4, estimator="exact", prior=prior)
    h, rows = tensor(numbers.normal(size=(B, D * 4))), tensor(numbers.normal(size=(D, 4)) * (prior == "learned"))
    weight = numbers.normal(size=(B, D))
    q = latent.posterior({"latent.prior": rows.detach().numpy()}, h.detach().numpy())
    kl = dist.kl_divergence(dist.Categorical(logits=h.reshape(B, D, 4)), dist.Categorical(logits=rows))
    (kl * torch.tensor(weight)).sum().backward()
    close(q.kl, kl.detach().numpy(), 1e-12)
    dlogits, grads = latent.prior.kl_backward({"latent.prior": rows.detach().numpy()}, weight, q.log_q)
    close(dlogits, h.grad.numpy().reshape(B, D, 4), 1e-12)
    if prior == "learned":
        close(grads["latent.prior"], rows.grad.numpy(), 1e-12)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_gumbel_softmax_agrees_with_torch_relaxed_one_hot(tau, numbers, monkeypatch):
    logits, g = tensor(numbers.normal(size=(B, D, 4))), numbers.normal(size=(S, B, D, 4))
    u = numbers.uniform(0.01, 0.99, (S, B, D, 4))
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor(u))
    y = dist.RelaxedOneHotCategorical(torch.tensor(tau, dtype=torch.float64), logits=logits).rsample((S,))
    ((y * torch.tensor(g)).sum() / S).backward()
    estimator = estimators.get("gumbel_softmax", temperature=tau, samples=S)
    draw = estimator.from_noise(logits.detach().numpy(), u, state=estimator.init(Generator(0), D, 4, 0))
    close(draw.codes, y.detach().numpy(), 1e-12)
    close(estimator.backward(draw, None, g), logits.grad.numpy(), 1e-12)
