"""A discrete VAE in PyTorch: autograd, logits throughout, fused Adam; subclasses are a loss for given noise."""
import numpy as np
import torch
import torch.nn.functional as F

from bench import tasks
from bench.peers.torch_peer import TorchPeer
from bench.problem import LR, dataset
from npdvae import rng


class TorchModel:
    """`run(order)` trains; `check()` is the largest error of its gradients, in float64 at our own noise."""

    def __init__(self, task, threads, compiled=False):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.task, params = task, tasks.params(task)
        self.layers = sum(k.startswith("encoder") for k in params) // 2
        self.params = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}
        self.adam = torch.optim.Adam([p for k, p in self.params.items() if k.startswith(("encoder", "decoder"))],
                                     lr=LR, fused=True)
        self.objective = torch.compile(self.loss) if compiled else self.loss
        self.prepare()

    def prepare(self):
        """What the task needs besides."""

    def draw(self, B):
        """Fresh noise of a batch: a tuple of tensors."""
        raise NotImplementedError

    def given(self, latent, generator, B):
        """The noise that our step draws from its generator, as `draw` would give it; float64 arrays."""
        raise NotImplementedError

    def loss(self, x, *noise):
        """Its gradient is the estimate: mean over x [B, P]."""
        raise NotImplementedError

    def after(self):
        """What follows the update of the layers."""

    mlp, rough = TorchPeer.mlp, False

    def cost(self, rows, x):
        """-log p(x | rows): [..., B, F] -> [..., B]."""
        logits = self.mlp("decoder", rows)
        return F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)

    def run(self, order):
        order, B = torch.from_numpy(order), self.task.B
        images = pixels()
        for i in range(0, len(order), B):
            x = torch.bernoulli(images[order[i:i + B]])
            self.adam.zero_grad(set_to_none=True)
            self.objective(x, *self.draw(len(x))).backward()
            self.adam.step()
            self.after()

    def check(self):
        x, held = tasks.pixels(), self.params
        ours = tasks.job(self.task._replace(B=len(x)), "readable", backend="numpy")
        self.params = {k: torch.tensor(v.detach().numpy().astype(float), requires_grad=True) for k, v in held.items()}
        noise = self.given(ours.model.latent, rng.Generator(0).at(0), len(x))
        self.loss(torch.from_numpy(x), *map(torch.from_numpy, noise)).backward()
        expected = tasks.agreed(self.task)
        found = {k: self.params[k].grad.numpy() for k in expected}
        self.params = held
        return tasks.largest_error(found, expected)


PIXELS: list[torch.Tensor] = []


def pixels():
    """Training images as float32 probabilities [N, P], kept for all."""
    if not PIXELS:
        d = dataset("mnist")
        PIXELS.append(torch.from_numpy(d.train.astype(np.float32) / d.levels))
    return PIXELS[0]
