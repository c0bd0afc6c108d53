"""The models of `bench.latent_steps` in PyTorch: Gaussian, VQ (twice), FSQ, smoothed bits."""
import math

import torch
import torch.nn.functional as F

from bench.peers.torch_model import TorchModel

SIZE, COMMITMENT, DECAY = 8, 0.25, 0.99         # our VQ's defaults
SAMPLES, BETA = 4, 2                            # our smoothing's


class Gaussian(TorchModel):
    """h = (loc, s), z = loc + exp(s) e; noise: e [1, B, D]."""

    def draw(self, B):
        return (torch.randn(1, B, self.task.D),)

    def given(self, latent, generator, B):
        return (latent.family.noise(generator.uniform((1, B, self.task.D, 2))),)

    def loss(self, x, e):
        loc, s = self.mlp("encoder", x).chunk(2, -1)                # [B, D] each
        kl = ((loc ** 2 + torch.exp(2 * s) - 1) / 2 - s).sum(-1)    # [B]
        return (self.cost(loc + s.exp() * e, x).mean(0) + kl).mean()


class Noiseless(TorchModel):
    def draw(self, B):
        return ()

    def given(self, latent, generator, B):
        return ()


class FSQ(Noiseless):
    """tanh, rounded to K levels; straight through."""

    def loss(self, x):
        y, K = torch.tanh(self.mlp("encoder", x)), self.task.K      # [B, D]
        code = ((K - 1) / 2 * y + K / 2).detach().floor().clamp(0, K - 1)
        return self.cost(y + (2 * code / (K - 1) - 1 - y).detach(), x).mean()


class VQ(Noiseless):
    """The nearest code of a codebook [K, C] that follows by moving averages; straight through, commitment."""

    def prepare(self):
        self.book = self.params.pop("latent.codebook").detach()[0]  # [K, C]
        self.size = torch.full((len(self.book),), self.task.D / len(self.book))

    def loss(self, x):
        h = self.mlp("encoder", x).view(len(x), -1, SIZE)           # [B, P, C]
        book = self.book.to(h.dtype)
        with torch.no_grad():
            codes = ((book ** 2).sum(-1) - 2 * h @ book.T).argmin(-1)       # [B, P]
            q = F.embedding(codes, book)                            # [B, P, C]
            self.follow(h, codes)
        commitment = ((h - q) ** 2).sum((1, 2))
        return (self.cost((h + (q - h).detach()).flatten(1), x) + COMMITMENT * commitment).mean()

    def follow(self, h, codes):
        """Sizes and sums of codes, per example, and the codebook."""
        hot = F.one_hot(codes.flatten(), len(self.book)).to(self.book.dtype)        # [B P, K]
        sums = DECAY * self.size[:, None] * self.book + (1 - DECAY) / len(h) * hot.T @ h.flatten(0, 1).to(hot.dtype)
        self.size.mul_(DECAY).add_((1 - DECAY) / len(h) * hot.sum(0))
        self.book.copy_(torch.where(self.size[:, None] > 1e-6, sums / self.size[:, None].clamp(min=1e-6), self.book))


class LibraryVQ(Noiseless):
    """The same by vector-quantize-pytorch; its loss is a mean over P and C."""

    def prepare(self):
        from vector_quantize_pytorch import VectorQuantize
        book = self.params.pop("latent.codebook").detach()[0]       # [K, C]
        self.vq = VectorQuantize(dim=SIZE, codebook_size=len(book), decay=DECAY, commitment_weight=1.0,
                                 rotation_trick=False)
        state, vectors = self.vq._codebook, self.task.B * self.task.D
        state.embed.data.copy_(book[None])
        state.cluster_size.data.fill_(vectors / len(book))
        state.embed_avg.data.copy_(book[None] * vectors / len(book))

    def loss(self, x):
        h = self.mlp("encoder", x).view(len(x), -1, SIZE)           # [B, P, C]
        z, _, commitment = self.vq(h)
        return self.cost(z.flatten(1), x).mean() + COMMITMENT * h.shape[1] * SIZE * commitment.sum()


class Smoothed(TorchModel):
    """Bits smeared by f2: zeta = 1 - (u / p)^beta where u < p, else 0; rows (1 - zeta, zeta). Noise: u [S, B, D]."""

    def draw(self, B):
        return (torch.rand(SAMPLES, B, self.task.D),)

    def given(self, latent, generator, B):
        return (generator.uniform((2 * SAMPLES, B, self.task.D))[:SAMPLES],)

    def loss(self, x, u):
        log_q = F.log_softmax(self.mlp("encoder", x).view(len(x), -1, 2), -1)       # [B, D, 2]
        kl = self.task.D * math.log(2) + (log_q.exp() * log_q).sum((1, 2))
        p = log_q[..., 1].exp()                                     # [B, D]
        zeta = torch.where(u < p, 1 - (u / p) ** BETA, 0)           # [S, B, D]
        rows = torch.stack([1 - zeta, zeta], -1).flatten(-2)        # [S, B, 2 D]
        return (self.cost(rows, x).mean(0) + kl).mean()


def make(name, task, threads):
    """The peer "torch", "torch.compile" or "vector-quantize" on a task."""
    kind = {"gaussian": Gaussian, "fsq": FSQ, "vq": VQ, "categorical": Smoothed}[task.latent]
    return (LibraryVQ if name == "vector-quantize" else kind)(task, threads, name == "torch.compile")
