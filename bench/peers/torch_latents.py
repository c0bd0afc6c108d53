"""PyTorch: a sketch of three latents of docs/latents.md by autograd, to train beside ours: vq, fsq, f2 smoothing."""
import math

import torch
import torch.nn.functional as F
from torch import nn


class VQ(nn.Module):
    """P vectors of C numbers, one codebook of moving averages; van den Oord et al. 2017."""

    def __init__(self, latents, categories, size=8, commitment=0.25, decay=0.99):
        super().__init__()
        self.P, self.K, self.C, self.commitment, self.decay = latents, categories, size, commitment, decay
        self.width = self.features = latents * size
        self.register_buffer("e", torch.empty(categories, size).uniform_(-1 / categories, 1 / categories))
        self.register_buffer("size", torch.full((categories,), latents / categories))
        self.register_buffer("sums", torch.zeros(categories, size))

    @torch.no_grad()
    def start(self, h):
        """k-means of encoder outputs h [N, P C]: 10 steps of Lloyd."""
        v = h.reshape(-1, self.C)
        self.e.copy_(v[torch.randperm(len(v))[:self.K]])
        for _ in range(10):
            one_hot = F.one_hot(self.codes(v), self.K).to(v.dtype)              # [N P, K]
            n = one_hot.sum(0)[:, None]
            self.e.copy_(torch.where(n > 0, one_hot.T @ v / n.clamp(min=1), self.e))
        self.sums.copy_(self.e * self.size[:, None])

    def codes(self, v):
        return torch.cdist(v, self.e).argmin(-1)

    def forward(self, h, train):
        """What the decoder reads, what joins the training cost, what joins the bound: [B, F], [B], [B]."""
        h = h.view(len(h), self.P, self.C)
        k = self.codes(h)                                                       # [B, P]
        self.seen = h.detach(), k
        q = F.embedding(k, self.e)                                              # [B, P, C]
        pull = self.commitment * ((h - q) ** 2).sum((1, 2))
        bound = torch.full_like(pull, self.P * math.log(self.K))
        return (h + (q - h).detach()).flatten(1), pull, bound

    @torch.no_grad()
    def after(self, part):
        """Moving averages, per example; `part` of the training is done."""
        h, k = self.seen
        one_hot = F.one_hot(k, self.K).to(h.dtype).flatten(0, 1)                # [B P, K]
        self.size.lerp_(one_hot.sum(0) / len(h), 1 - self.decay)
        self.sums.lerp_(one_hot.T @ h.flatten(0, 1) / len(h), 1 - self.decay)
        self.e.copy_(torch.where(self.size[:, None] > 1e-6, self.sums / self.size[:, None], self.e))


class FSQ(nn.Module):
    """tanh h rounded to K levels from -1 to 1; Mentzer et al. 2024, in symmetric form."""

    def __init__(self, latents, categories):
        super().__init__()
        self.D, self.K, self.width, self.features = latents, categories, latents, latents

    def forward(self, h, train):
        y = torch.tanh(h)
        z = torch.round((y + 1) / 2 * (self.K - 1)) / (self.K - 1) * 2 - 1
        return y + (z - y).detach(), torch.zeros(len(h)), torch.full((len(h),), self.D * math.log(self.K))

    def after(self, part):
        pass


class F2(nn.Module):
    """Bits smeared to 1 - s^beta where s = u / p < 1; 1 / beta falls in a line over the training; S samples."""

    def __init__(self, latents, samples, first, last):
        super().__init__()
        self.D, self.S, self.first, self.last = latents, samples, first, last
        self.width = self.features = 2 * latents
        self.register_buffer("tau", torch.tensor(float(first)))

    def forward(self, h, train):
        phi = h.view(len(h), self.D, 2)
        a = phi[..., 1] - phi[..., 0]                                           # [B, D]
        p = torch.sigmoid(a)
        kl = (p * F.logsigmoid(a) + (1 - p) * F.logsigmoid(-a) + math.log(2)).sum(1)
        u = torch.rand(self.S if train else 1, *p.shape)                        # [S, B, D]
        if train:
            log_s = (u.log() - F.logsigmoid(a)).clamp(max=0)                    # finite where p underflows
            zeta = 1 - (log_s / self.tau).exp()
        else:
            zeta = (u < p).to(p.dtype)
        return torch.stack([1 - zeta, zeta], -1).flatten(-2), kl, kl

    def after(self, part):
        self.tau.fill_(self.first + (self.last - self.first) * part)


LATENTS = {"vq": VQ, "fsq": FSQ, "smoothing": F2}


def mlp(sizes, init):
    """Linear layers with relu between them, initialised as PyTorch does, or "he" (uniform, biases 0)."""
    layers = [m for i, o in zip(sizes, sizes[1:]) for m in (nn.Linear(i, o), nn.ReLU())]
    for layer in layers[::2] if init == "he" else []:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers[:-1])


class Model(nn.Module):
    """Encoder, latent, mirrored decoder."""

    def __init__(self, pixels, hidden, init, latent):
        super().__init__()
        self.latent = latent
        self.encoder = mlp([pixels, *hidden, latent.width], init)
        self.decoder = mlp([latent.features, *hidden[::-1], pixels], init)

    def forward(self, x, train):
        """Mean training loss and mean bound of binary images x [B, P], nats."""
        rows, joins, bound = self.latent(self.encoder(x), train)
        logits = self.decoder(rows)                                             # [S, B, P] or [B, P]
        cost = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        cost = cost if cost.ndim == 1 else cost.mean(0)                         # [B]
        return (cost + joins).mean(), (cost + bound).mean(), bound.mean()


def train(latent, options, pixels, test, hidden, init, batch, lr, epochs, seed, path):
    """Bound and its KL on the test images, nats, after some epochs on images [N, P] of probabilities; one thread.

    State after each epoch is in the file `path`; a run that was stopped goes on from it.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    images, test = torch.from_numpy(pixels), torch.from_numpy(test)
    model = Model(images.shape[1], hidden, init, LATENTS[latent](**options))
    adam, first, steps = torch.optim.Adam(model.parameters(), lr=lr, fused=True), 0, math.ceil(len(images) / batch)
    if path.exists():
        kept = torch.load(path)
        model.load_state_dict(kept["model"])
        adam.load_state_dict(kept["adam"])
        torch.set_rng_state(kept["rng"])
        first = kept["epoch"]
    elif latent == "vq":
        model.latent.start(model.encoder(torch.bernoulli(images[:2000])))
    for epoch in range(first, epochs):
        for i, some in enumerate(torch.randperm(len(images)).split(batch), epoch * steps + 1):
            adam.zero_grad()
            model(torch.bernoulli(images[some]), True)[0].backward()
            adam.step()
            model.latent.after(i / (steps * epochs))
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "rng": torch.get_rng_state(),
                    "epoch": epoch + 1}, path)
    with torch.no_grad():
        found = torch.stack([torch.stack(model(torch.bernoulli(x), False)[1:]) * len(x) for x in test.split(500)])
    return tuple(float(v) / len(test) for v in found.sum(0))
