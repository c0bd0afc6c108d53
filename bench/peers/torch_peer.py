"""PyTorch: autograd, logits throughout, fused Adam, data in memory; eager or torch.compile; or layers in autocast."""
import math

import numpy as np
import torch
import torch.nn.functional as F

from bench import problem as problems


class TorchPeer:
    """One contestant: `run(order)` trains, `epoch()` also evaluates, `check()` is for validation."""

    rough = False

    def __init__(self, problem, compiled=False, threads=2, rough=False):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.problem, self.layers, self.rough = problem, len(problem.hidden) + 1, rough
        self.params = {k: torch.tensor(v, requires_grad=True) for k, v in problems.params(problem).items()}
        self.images = torch.from_numpy(problems.probabilities(problem))
        test = problems.dataset(problem.data)
        self.test = torch.from_numpy(test.to_probabilities(test.test))
        self.adam = torch.optim.Adam(self.params.values(), lr=problems.LR, fused=True)
        self.codes = None
        if problem.estimator == "exact":
            self.codes = torch.cartesian_prod(*[torch.arange(problem.K)] * problem.D)       # [C, D]
        self.objective = torch.compile(self.loss) if compiled else self.loss

    def mlp(self, name, x):
        """Layers, under autocast to bfloat16 where products are `rough`; the last output in float32."""
        if not self.rough:
            return self.chain(name, x)
        with torch.autocast("cpu", torch.bfloat16):
            return self.chain(name, x).float()

    def chain(self, name, x):
        """Layers, ReLU between them."""
        for i in range(self.layers):
            x = F.linear(x, self.params[f"{name}.{i}.weight"].T, self.params[f"{name}.{i}.bias"])
            if i < self.layers - 1:
                x = F.relu(x)
        return x

    def loss(self, x, codes=None):
        """Surrogate whose gradient is the estimate, and the negative ELBO, means over x [B, P]; codes may be given."""
        p = self.problem
        log_q = F.log_softmax(self.mlp("encoder", x).view(-1, p.D, p.K), -1)      # [B, D, K]
        q = log_q.exp()
        kl = p.D * math.log(p.K) + (q * log_q).sum((1, 2))                        # [B]
        if self.codes is not None:
            return self.exact_loss(x, log_q, kl)
        if p.S > 1:                                                               # sample s of image b in row s B + b
            x, q, log_q = (a.repeat(p.S, *[1] * (a.dim() - 1)) for a in (x, q, log_q))
        if codes is None:
            codes = (q.detach() / torch.empty_like(q).exponential_()).argmax(-1)  # [S B, D]
        z = F.one_hot(codes, p.K).to(x.dtype)
        logits = self.mlp("decoder", z.view(-1, p.D * p.K))
        cost = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)   # [S B]
        score = ((cost.detach() - p.baseline) * (log_q * z).sum((1, 2))).mean()
        elbo = cost.mean() + kl.mean()
        return elbo + score, elbo

    def exact_loss(self, x, log_q, kl):
        """E_q[cost] by enumeration, the codes decoded once for the batch."""
        p = self.problem
        z = F.one_hot(self.codes, p.K).to(x.dtype).view(-1, p.D * p.K)            # [C, D K]
        logits = self.mlp("decoder", z)
        cost = F.softplus(logits).sum(1)[:, None] - logits @ x.T                  # [C, B]
        q = (z @ log_q.view(-1, p.D * p.K).T).exp()                               # [C, B]
        elbo = (q * cost).sum(0).mean() + kl.mean()
        return elbo, elbo

    def step(self, x):
        self.adam.zero_grad(set_to_none=True)
        loss, elbo = self.objective(x)
        loss.backward()
        self.adam.step()
        return elbo.detach()

    def run(self, order):
        total, B = 0.0, self.problem.B
        order = torch.from_numpy(order)
        for i in range(0, len(order), B):
            total += self.step(torch.bernoulli(self.images[order[i:i + B]]))
        return float(total)

    def epoch(self):
        """Shuffle, train on every image, evaluate the test split with fresh pixels and codes."""
        self.run(torch.randperm(len(self.images)).numpy())
        with torch.no_grad():
            return sum(float(self.loss(torch.bernoulli(x))[1]) * len(x) for x in self.test.split(500)) / len(self.test)

    def check(self, x, codes):
        """Loss and gradients for given pixels and codes."""
        self.adam.zero_grad(set_to_none=True)
        loss, elbo = self.objective(torch.from_numpy(x), None if codes is None else torch.from_numpy(codes))
        loss.backward()
        grads = {k: p.grad.numpy().copy() for k, p in self.params.items()}
        self.adam.zero_grad(set_to_none=True)
        return float(elbo.detach()), grads



def check_versions():
    """What the results record."""
    return {"torch": torch.__version__, "numpy": np.__version__}
