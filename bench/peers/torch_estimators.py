"""Six estimators in PyTorch, from their papers: detached rows and autograd, with the defaults of ours."""
import math

import numpy as np
import torch
import torch.nn.functional as F

from bench.peers.torch_model import TorchModel

TAU = 0.5


class Categorical(TorchModel):
    """Logits [B, D, K] with the analytic KL to the uniform prior."""

    S = 1

    def posterior(self, x):
        """logits and log q [B, D, K], KL [B]."""
        D, K = self.task.D, self.task.K
        logits = self.mlp("encoder", x).view(-1, D, K)
        log_q = F.log_softmax(logits, -1)
        return logits, log_q, D * math.log(K) + (log_q.exp() * log_q).sum((1, 2))

    def decoded(self, z, x):
        """Cost of rows z [S, B, D, K]: [S, B]."""
        return self.cost(z.flatten(-2), x)

    def hot(self, codes, like):
        return F.one_hot(codes, self.task.K).to(like.dtype)


class Gumbel(Categorical):
    """Noise: standard exponentials [S, B, D, K]."""

    def draw(self, B):
        return (torch.empty(self.S, B, self.task.D, self.task.K).exponential_(),)

    def given(self, latent, generator, B):
        return (-np.log(generator.uniform((self.S, B, self.task.D, self.task.K))),)


class GumbelSoftmax(Gumbel):
    def loss(self, x, e):
        logits, _, kl = self.posterior(x)
        y = F.softmax((logits - e.log()) / TAU, -1)                 # [S, B, D, K]
        return (self.decoded(y, x).mean(0) + kl).mean()


class StraightThroughGumbel(Gumbel):
    def loss(self, x, e):
        logits, _, kl = self.posterior(x)
        y = F.softmax((logits - e.log()) / TAU, -1)                 # [S, B, D, K]
        z = self.hot(y.argmax(-1), y) + (y - y.detach())
        return (self.decoded(z, x).mean(0) + kl).mean()


class Rebar(Gumbel):
    """A second set of exponentials, for the noise given the code; eta follows the variance by its own Adam."""

    def prepare(self):
        self.eta = torch.ones(1, requires_grad=True)
        self.adam.add_param_group({"params": [self.eta]})

    def draw(self, B):
        return (*super().draw(B), *super().draw(B))

    def given(self, latent, generator, B):
        return (*super().given(latent, generator, B), *super().given(latent, generator, B))

    def loss(self, x, e, v):
        logits, log_q, kl = self.posterior(x)
        noisy = log_q - e.log()                                     # [1, B, D, K]
        codes = noisy.argmax(-1)                                    # [1, B, D]
        z = self.hot(codes, noisy)
        winner = v.gather(-1, codes[..., None])                     # [1, B, D, 1]
        given = -torch.where(z > 0, winner.log(), (v / log_q.exp() + winner).log())
        relaxed = F.softmax(torch.cat([noisy, given]) / TAU, -1)    # [2, B, D, K]
        f_y, f_given = self.decoded(relaxed, x)                     # [B] each
        path, = torch.autograd.grad((f_y - f_given).sum(), logits, retain_graph=True)
        with torch.no_grad():
            score = z[0] - log_q.exp()                              # [B, D, K]
        f = self.decoded(z, x)[0]                                   # [B]
        eta = self.eta.to(f.dtype)
        control = path - f_given.detach()[:, None, None] * score
        dlogits = f.detach()[:, None, None] * score + eta * control
        variance = (dlogits ** 2).sum((1, 2)).mean()
        return (f + kl + (dlogits.detach() * logits).sum((1, 2))).mean() + variance


class Sampled(Categorical):
    """Codes by a race of exponentials; ours, where they are given."""

    def draw(self, B):
        return (torch.empty(self.S, B, self.task.D, self.task.K).exponential_(),)

    def given(self, latent, generator, B):
        u = generator.uniform((self.S, B, self.task.D))             # codes by the inverse of the distribution function
        return (u,)

    def codes(self, log_q, noise):
        """int [S, B, D]."""
        q = log_q.detach().exp()
        if noise.shape[-1] == self.task.K and noise.dim() == 4:
            return (q / noise).argmax(-1)
        return (q.cumsum(-1)[..., :-1] <= noise[..., None]).sum(-1)


class ReinMax(Sampled):
    """The Jacobian at a constant m is that of softmax(log m + logits - their values)."""

    def loss(self, x, noise):
        logits, log_q, kl = self.posterior(x)
        z = self.hot(self.codes(log_q, noise), log_q)               # [S, B, D, K]
        p = log_q.exp()
        middle = ((p + z) / 2).detach()
        moving = F.softmax(middle.log() + logits - logits.detach(), -1)
        both = 2 * moving - p / 2
        return (self.decoded(z + (both - both.detach()), x).mean(0) + kl).mean()


class Vimco(Sampled):
    S = 4

    def loss(self, x, noise):
        _, log_q, _ = self.posterior(x)
        S, D, K = self.S, self.task.D, self.task.K
        z = self.hot(self.codes(log_q, noise), log_q)               # [S, B, D, K]
        log_qz = (z * log_q).sum((2, 3))                            # [S, B]
        log_w = -self.decoded(z, x) - D * math.log(K) - log_qz
        bound = log_w.logsumexp(0)                                  # [B]
        with torch.no_grad():
            geometric = (log_w.sum(0) - log_w) / (S - 1)            # [S, B], mean of the others
            itself = torch.eye(S, dtype=torch.bool)[:, :, None]
            without = torch.where(itself, geometric[:, None], log_w).logsumexp(1)       # [S, B]
            signal = bound - without
        return -(bound + (signal * log_qz).sum(0)).mean()


class DisARM(Categorical):
    """Noise: uniforms [B, D]."""

    def draw(self, B):
        return (torch.rand(B, self.task.D),)

    def given(self, latent, generator, B):
        return (generator.uniform((1, B, self.task.D))[0],)

    def loss(self, x, u):
        logits, log_q, kl = self.posterior(x)
        a = logits[..., 1] - logits[..., 0]                         # [B, D]
        with torch.no_grad():
            bits = torch.stack([u > torch.sigmoid(-a), u < torch.sigmoid(a)]).long()    # [2, B, D]
            factor = (bits[0] - bits[1]) * torch.sigmoid(a.abs())
        f = self.decoded(self.hot(bits, log_q), x)                  # [2, B]
        da = ((f[0] - f[1]).detach() / 2)[:, None] * factor         # [B, D]
        return (f.mean(0) + kl + (da * a).sum(1)).mean()


PEERS = {"straight_through_gumbel": StraightThroughGumbel, "gumbel_softmax": GumbelSoftmax, "reinmax": ReinMax,
         "rebar": Rebar, "disarm": DisARM, "vimco": Vimco}


def make(name, task, threads):
    """The peer "torch" or "torch.compile" on a task."""
    return PEERS[task.estimator](task, threads, name == "torch.compile")
