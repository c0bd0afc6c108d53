"""Quantisers against vector-quantize-pytorch, on the same numbers: one step of each. Share: skipped, or 5 s.

Its losses are means over examples, positions and numbers: a weight of it is P C times ours. Its inside is float32 even
where inputs are float64, hence 1e-6.
"""
import numpy as np
import pytest

from npdvae import latents
from tests.checks import close

peers = pytest.importorskip("vector_quantize_pytorch", reason="vector_quantize_pytorch is not installed")
torch = pytest.importorskip("torch")

B, P, C, K, D = 7, 4, 3, 5, 4
DRAW = np.random.default_rng(0)
H, G = DRAW.normal(size=(B, P, C)), DRAW.normal(size=(B, P, C))     # encoder outputs, and d cost / d codes per example
E = 0.7 * DRAW.normal(size=(K, C))


def vq(**options):
    return latents.get("vq", latents=P, categories=K, size=C, **options)


def ours(latent, params, state=None):
    """Decoder inputs, dh, gradients and refreshed codebook of one step, losses as means over the batch."""
    z, kept = latent.forward(params, H.reshape(B, -1), None)
    dh, grads = latent.backward(params, kept, None, G.reshape(1, B, -1), scale=1 / B)
    _, state = latent.advance(params, kept, None, None, state)
    after = None if state is None else latent.refresh(params, state)["latent.codebook"][0]
    return latent.rows(params, z)[0].reshape(B, P, C), dh.reshape(B, P, C), grads, after


def theirs(module):
    """Quantized inputs and dh of one step of theirs in training mode."""
    h = torch.tensor(H, requires_grad=True)
    q, _, loss = module.train()(h)
    ((q * torch.tensor(G)).sum() / B + loss.sum()).backward()
    return q.detach().numpy(), h.grad.numpy()


def set_codebook(module, e, size):
    book = module._codebook
    book.embed.data[0] = torch.tensor(e)
    book.cluster_size.data[0] = torch.tensor(size)
    book.embed_avg.data[0] = torch.tensor(e * size[:, None])


@pytest.mark.parametrize("rotation", [False, True])
def test_agrees_with_vector_quantize_pytorch_ema(rotation):
    """Straight through or by rotation, its default, so False is said aloud. Its counts are of batches."""
    latent, size = vq(rotation=rotation, commitment=0.3, decay=0.9), DRAW.uniform(0.5, 2, K)
    state = {"size": size[None], "sums": np.zeros((1, K, C))}
    rows, dh, grads, after = ours(latent, {"latent.codebook": E[None]}, state)
    module = peers.VectorQuantize(dim=C, codebook_size=K, decay=0.9, commitment_weight=0.3 * P * C, eps=1e-12,
                                  rotation_trick=rotation).double()
    set_codebook(module, E, B * size)
    q, dx = theirs(module)
    close(rows, q, 1e-6)
    close(dh, dx, 1e-6)
    close(after, module._codebook.embed[0].detach().numpy(), 1e-6)
    assert not grads and np.abs(after - E).max() > 0.01


def test_agrees_with_vector_quantize_pytorch_cosine():
    unit = E / np.linalg.norm(E, axis=-1, keepdims=True)
    latent, size = vq(cosine=True, commitment=0.0, decay=0.9), DRAW.uniform(0.5, 2, K)
    state = {"size": size[None], "sums": np.zeros((1, K, C))}
    rows, _, _, after = ours(latent, {"latent.codebook": unit[None]}, state)
    module = peers.VectorQuantize(dim=C, codebook_size=K, decay=0.9, commitment_weight=0.0, eps=1e-12,
                                  use_cosine_sim=True, rotation_trick=False).double()
    set_codebook(module, unit, B * size)
    q, _ = theirs(module)
    close(rows, q, 1e-6)
    close(after, module._codebook.embed[0].detach().numpy(), 1e-6)


def test_agrees_with_vector_quantize_pytorch_codebook_loss():
    """Its one loss serves both sides, so the commitment is 1 here."""
    latent = vq(codebook="gradient", commitment=1.0)
    _, dh, grads, _ = ours(latent, {"latent.codebook": E[None]})
    module = peers.VectorQuantize(dim=C, codebook_size=K, learnable_codebook=True, ema_update=False,
                                  commitment_weight=1.0 * P * C, rotation_trick=False).double()
    module._codebook.embed.data[0] = torch.tensor(E)
    _, dx = theirs(module)
    close(dh, dx, 1e-6)
    close(grads["latent.codebook"][0], module._codebook.embed.grad[0].numpy(), 1e-6)


def test_agrees_with_vector_quantize_pytorch_simvq():
    base, w = DRAW.normal(size=(K, C)), DRAW.normal(size=(C, C))
    latent = vq(codebook="simvq", commitment=0.25)
    rows, dh, grads, _ = ours(latent, {"latent.base": base[None], "latent.transform": w[None]})
    module = peers.SimVQ(dim=C, codebook_size=K, rotation_trick=False, commitment_weight=1.0 * P * C).double()
    module.frozen_codebook.data[:] = torch.tensor(base)
    module.code_transform.weight.data[:] = torch.tensor(w.T)
    q, dx = theirs(module)
    close(rows, q, 1e-6)
    close(dh, dx, 1e-6)
    close(grads["latent.transform"][0], module.code_transform.weight.grad.numpy().T, 1e-6)


@pytest.mark.parametrize("levels", [2, 4, 5])
def test_agrees_with_vector_quantize_pytorch_fsq(levels):
    latent = latents.get("fsq", latents=D, categories=levels)
    h, g = torch.tensor(DRAW.normal(size=(B, 1, D)), requires_grad=True), DRAW.normal(size=(B, 1, D))
    q, _ = peers.FSQ(levels=[levels] * D, preserve_symmetry=True).train()(h)
    (q * torch.tensor(g)).sum().backward()
    z, kept = latent.forward({}, h.detach().numpy()[:, 0], None)
    close(latent.level(z[0], float), q.detach().numpy()[:, 0], 1e-6)
    close(latent.backward({}, kept, None, g.swapaxes(0, 1))[0], h.grad.numpy()[:, 0], 1e-6)


@pytest.mark.parametrize("name, spherical", [("lfq", False), ("bsq", True)])
def test_agrees_with_vector_quantize_pytorch_lfq(name, spherical):
    """Without its entropy of the joint code, which ours bounds by the bits' own.

    Its logarithm is clamped at 1e-5 and its entropies are float32: over 40 seeds they missed by up to 2.2e-5 of the
    largest gradient.
    """
    draw = np.random.default_rng(1)             # its own: other tests may have drawn before or not
    latent = latents.get(name, latents=D, commitment=0.3, entropy_weight=0.7, mix=0.0)
    h, g = torch.tensor(0.6 * draw.normal(size=(B, 1, D)), requires_grad=True), draw.normal(size=(B, 1, D))
    module = peers.LFQ(dim=D, entropy_loss_weight=0.7, commitment_loss_weight=0.3 * D, diversity_gamma=0.0,
                       spherical=spherical)
    q, _, loss = module.train()(h, inv_temperature=1.0)
    ((q * torch.tensor(g)).sum() / B + loss).backward()
    z, kept = latent.forward({}, h.detach().numpy()[:, 0], None)
    close(latent.level(z[0], float), q.detach().numpy()[:, 0], 1e-6)
    close(latent.backward({}, kept, None, g.swapaxes(0, 1), scale=1 / B)[0], h.grad.numpy()[:, 0], 3e-5)
