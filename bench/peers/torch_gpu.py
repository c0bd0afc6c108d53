"""PyTorch on a CUDA device: eager, compiled with CUDA graphs, or the whole step captured by hand."""
import torch

from bench import problem as problems
from bench.peers.torch_peer import TorchPeer

MODES = {"torch": None, "torch.reduce-overhead": "reduce-overhead", "torch.max-autotune": "max-autotune",
         "torch.graph": None}


class TorchGPU(TorchPeer):
    """One contestant, as `TorchPeer`, everything on the device."""

    def __init__(self, problem, name, images, params, device="cuda"):
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("highest")               # no TF32, as ours
        self.problem, self.layers, self.device = problem, len(problem.hidden) + 1, torch.device(device)
        self.params = {k: torch.tensor(v, device=self.device, requires_grad=True) for k, v in params.items()}
        self.images = torch.tensor(images, device=self.device)
        self.adam = torch.optim.Adam(self.params.values(), lr=problems.LR, fused=True, capturable=True)
        self.codes = None
        if problem.estimator == "exact":
            self.codes = torch.cartesian_prod(*[torch.arange(problem.K, device=self.device)] * problem.D)   # [C, D]
        mode = MODES[name]
        # sizes fixed: else what is validated at 64 rows is compiled again for any number of rows, and timed so
        self.objective = torch.compile(self.loss, mode=mode, dynamic=False) if mode else self.loss
        self.graph = None
        if name == "torch.graph":
            self.capture()

    def capture(self):
        """Record one step, pixels and optimizer included; parameters and moments end as they began."""
        self.index = torch.zeros(self.problem.B, dtype=torch.int64, device=self.device)
        self.total = torch.zeros((), device=self.device)
        before = {k: p.detach().clone() for k, p in self.params.items()}
        self.graph, _ = recorded(lambda: self.total.add_(self.one(self.index)))
        self.restore(before)

    def restore(self, params):
        """Parameters as before, moments as new: what warming up has changed."""
        with torch.no_grad():
            for k, p in self.params.items():
                p.copy_(params[k])
            for moments in self.adam.state.values():
                for v in moments.values():
                    v.zero_()

    def one(self, index):
        """One step on the images of index [B]: the mean negative ELBO."""
        return self.step(torch.bernoulli(self.images[index]))

    def run(self, order):
        B, order = self.problem.B, torch.as_tensor(order, device=self.device)
        if self.graph is not None:
            self.total.zero_()
            for i in range(0, len(order), B):
                self.index.copy_(order[i:i + B])
                self.graph.replay()
            return float(self.total)
        total = torch.zeros((), device=self.device)
        for i in range(0, len(order), B):
            if self.objective is not self.loss:
                torch.compiler.cudagraph_mark_step_begin()
            total += self.one(order[i:i + B])
        return float(total)

    def gradients(self, x, codes):
        """The negative ELBO; gradients in the parameters' `grad`."""
        self.adam.zero_grad(set_to_none=True)
        loss, elbo = self.objective(x, codes)
        loss.backward()
        return elbo.detach()

    def check(self, x, codes):
        """Loss and gradients for given pixels and codes, by a graph too where steps are one."""
        x = torch.tensor(x, device=self.device)
        codes = None if codes is None else torch.tensor(codes, device=self.device)
        if self.graph is None:
            elbo = self.gradients(x, codes)
        else:
            graph, elbo = recorded(lambda: self.gradients(x, codes))
            graph.replay()
        return float(elbo), {k: p.grad.cpu().numpy() for k, p in self.params.items()}

    def memory(self):
        """Most device memory taken so far, in bytes."""
        return torch.cuda.max_memory_reserved()


def recorded(work):
    """A graph of `work()`, and where its result lies; recorded after three runs on a side stream to warm up."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph, result
