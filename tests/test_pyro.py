"""Pyro's TraceEnum_ELBO: the enumerated bound and every gradient are ours, with each prior. Share: skipped, or 5 s."""
import numpy as np
import pytest

from npdvae import likelihoods
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.rng import INIT, Generator
from npdvae.step import step
from tests.checks import close

torch = pytest.importorskip("torch")
pyro = pytest.importorskip("pyro")
dist = pytest.importorskip("pyro.distributions")
infer = pytest.importorskip("pyro.infer")

P, D, K, B = 7, 3, 3, 4


def mlp(params, name, x):
    """Layers of ours with tanh between them."""
    last = max(int(k.split(".")[1]) for k in params if k.startswith(name + "."))
    for i in range(last + 1):
        x = x @ params[f"{name}.{i}.weight"] + params[f"{name}.{i}.bias"]
        x = torch.tanh(x) if i < last else x
    return x


def conditional(params, prior, rows, d):
    """Logits of latent d given the rows [.., K] of those before: MADE by its masks, written out."""
    if prior == "uniform":
        return torch.zeros(K, dtype=torch.float64)
    if prior == "learned":
        return params["latent.prior"][d]
    degree = np.arange(D).repeat(K)                                 # of inputs and outputs, [D K]
    hidden = np.arange(params["latent.prior.0.weight"].shape[1]) % (D - 1)      # [H]
    seen, served = (torch.tensor(m, dtype=torch.float64) for m in (degree[:, None] <= hidden, hidden[:, None] < degree))
    none = torch.zeros(K, dtype=torch.float64)                      # in the place of those that are not seen
    x = torch.cat(torch.broadcast_tensors(*rows, *[none] * (D - len(rows))), -1)        # [.., D K]
    y = torch.relu(x @ (params["latent.prior.0.weight"] * seen) + params["latent.prior.0.bias"])
    out = y @ (params["latent.prior.1.weight"] * served) + params["latent.prior.1.bias"]
    return out[..., d * K:(d + 1) * K]


def programs(params, prior):
    """Model and guide of the same parameters."""
    eye = torch.eye(K, dtype=torch.float64)

    def guide(x):
        logits = mlp(params, "encoder", x).reshape(B, D, K)
        with pyro.plate("images", B):
            for d in range(D):
                pyro.sample(f"z{d}", dist.Categorical(logits=logits[:, d]), infer={"enumerate": "parallel"})

    def model(x):
        rows = []
        with pyro.plate("images", B):
            for d in range(D):
                z = pyro.sample(f"z{d}", dist.Categorical(logits=conditional(params, prior, rows, d)))
                rows.append(eye[z])                                 # [.., B, K]
            a = mlp(params, "decoder", torch.cat(torch.broadcast_tensors(*rows), -1))
            pyro.sample("x", dist.Bernoulli(logits=a).to_event(1), obs=x)
    return model, guide


@pytest.mark.parametrize("prior", ["uniform", "learned", "autoregressive"])
def test_exact_step_agrees_with_pyros_enumerated_elbo(prior):
    """1e-12: float64 sums over 27 codes in another order; 2e-16 to 2e-15 are measured."""
    ours = DiscreteVAE(P, (5,), Categorical(D, K, "exact", prior=prior), likelihoods.get("bernoulli"), "tanh")
    noise = np.random.default_rng(0)
    params = {k: v + 0.5 * noise.normal(size=v.shape) for k, v in ours.init(Generator(0, INIT), np.float64).items()}
    x = (noise.random((B, P)) < 0.5).astype(float)
    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}
    model, guide = programs(theirs, prior)
    loss = infer.TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, torch.tensor(x))
    loss.backward()
    done = step(ours, params, x, None)
    close((done.cost + done.kl).sum(), loss.item(), 1e-12)
    assert done.grads.keys() == theirs.keys()
    largest = max(np.abs(g).max() for g in done.grads.values())
    for name, g in done.grads.items():
        close(B * g, theirs[name].grad.numpy(), 1e-12, B * largest)
