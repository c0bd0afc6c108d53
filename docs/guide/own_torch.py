"""The same with PyTorch's own sampler and gradient."""
import torch


def estimate(logits, rng, cost, leave_one_out=True, samples=4):
    """dlogits [B, D, K], by backward of sum advantage * log q."""
    torch.manual_seed(int(rng.uniform((1, 1))[0, 0] * 2 ** 23))
    phi = torch.tensor(logits, requires_grad=True)                  # [B, D, K]
    q = torch.distributions.Categorical(logits=phi)
    codes = q.sample((samples,))                                    # [S, B, D]
    f = torch.from_numpy(cost(codes.numpy()))                       # [S, B]
    advantage = (f - f.mean(0)) / (samples - leave_one_out)
    (advantage * q.log_prob(codes).sum(-1)).sum().backward()
    return phi.grad.numpy()
