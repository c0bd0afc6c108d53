"""Parameter updates, against loops that follow the papers and against torch.optim. Share: 1 s."""
import math

import numpy as np
import pytest

from npdvae.ops.updates import adam, radam, radam_rectifier, sgd
from tests.checks import DTYPES, close

RNG = np.random.default_rng(7)
START, GRADIENTS = RNG.normal(size=5), RNG.normal(size=(12, 5)) * [1, 1e-3, 10, 1, 0]


def adam_by_the_paper(p, gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Algorithm 1 of Kingma & Ba 2015, one number."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        p = p - lr * (m / (1 - beta1 ** t)) / (math.sqrt(v / (1 - beta2 ** t)) + eps)
    return p, m, v


def radam_by_the_paper(p, gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Algorithm 2 of Liu et al. 2020, one number, with torch's eps beside sqrt(v) before the bias correction."""
    m = v = 0.0
    longest = 2 / (1 - beta2) - 1
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        length = longest - 2 * t * beta2 ** t / (1 - beta2 ** t)
        step = m / (1 - beta1 ** t)
        if length > 5:
            r = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
            step = step * r * math.sqrt(1 - beta2 ** t) / (math.sqrt(v) + eps)
        p = p - lr * step
    return p, m, v


def run(update, moments, **options):
    """Twelve updates of all five parameters."""
    p, kept = START, [np.zeros(5) for _ in range(moments)]
    for t, g in enumerate(GRADIENTS, 1):
        p, *kept = update(p, g, *kept, *([t] if moments == 2 else []), **options)
    return p, *kept


@pytest.mark.parametrize("options", [{"lr": 1e-3}, {"lr": 0.1, "beta1": 0.5, "beta2": 0.7, "eps": 1e-3}])
@pytest.mark.parametrize("update, paper", [(adam, adam_by_the_paper), (radam, radam_by_the_paper)])
def test_adaptive_update_follows_its_paper(update, paper, options):
    got = np.stack(run(update, 2, **options))   # [3, 5]; beta2 = 0.7 keeps RAdam unrectified, 0.999 rectifies at t = 6
    close(got.T, np.array([paper(p, g, **options) for p, g in zip(START, GRADIENTS.T)]), 1e-14, abs(got.T) + 1e-3)


def test_sgd_update_accumulates_momentum():
    plain = np.stack([START - 0.1 * GRADIENTS.sum(0), GRADIENTS[-1]])
    close(np.stack(run(sgd, 1, lr=0.1, momentum=0.0)), plain, 1e-14, 5)
    m = np.zeros(5)
    p = START
    for g in GRADIENTS:
        m = 0.9 * m + g
        p = p - 0.1 * m
    close(np.stack(run(sgd, 1, lr=0.1)), np.stack([p, m]), 1e-14, 10)


def test_radam_rectifier_starts_when_the_variance_is_tractable():
    assert [radam_rectifier(t, 0.999) is None for t in range(1, 8)] == [True] * 5 + [False] * 2
    assert all(radam_rectifier(t, 0.6) is None for t in (1, 5, 50))   # rho_inf = 4: never
    assert 0.01 < radam_rectifier(6, 0.999) < radam_rectifier(100, 0.999) < radam_rectifier(10 ** 5, 0.999) <= 1


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_updates_keep_types_and_leave_their_inputs(dtype):
    p, g, m, v = (a.astype(dtype) for a in (START, GRADIENTS[0], GRADIENTS[1], GRADIENTS[2] ** 2))
    kept = [a.copy() for a in (p, g, m, v)]
    for out in (sgd(p, g, m, 0.1), adam(p, g, m, v, 7, 0.1), radam(p, g, m, v, 2, 0.1), radam(p, g, m, v, 7, 0.1)):
        assert all(a.dtype == dtype for a in out)
    assert all((a == b).all() for a, b in zip(kept, (p, g, m, v)))


@pytest.mark.parametrize("name, options, torch_options", [
    ("Adam", {"lr": 1e-2}, {"lr": 1e-2}),
    ("Adam", {"lr": 1e-2, "beta1": 0.8, "beta2": 0.9, "eps": 1e-4}, {"lr": 1e-2, "betas": (0.8, 0.9), "eps": 1e-4}),
    ("RAdam", {"lr": 1e-2}, {"lr": 1e-2}),
    ("RAdam", {"lr": 1e-2, "beta1": 0.8, "beta2": 0.95, "eps": 1e-4}, {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-4}),
    ("SGD", {"lr": 1e-2}, {"lr": 1e-2, "momentum": 0.9})])
def test_update_agrees_with_torch(torch, name, options, torch_options):
    t = torch.tensor(START, requires_grad=True)
    optimizer = getattr(torch.optim, name)([t], **torch_options)
    for g in GRADIENTS:
        t.grad = torch.tensor(g)
        optimizer.step()
    update, moments = {"Adam": (adam, 2), "RAdam": (radam, 2), "SGD": (sgd, 1)}[name]
    close(run(update, moments, **options)[0], t.detach().numpy(), 1e-12)
