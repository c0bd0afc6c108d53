"""The simplex of shares w_1 + ... + w_K = 1 cut where argmin_i log w_s(i) - phi_i changes, for any swap s of shares.

Exact enumeration for few categories, many rows of logits at once.
"""
import itertools
from math import sqrt
from typing import Any, NamedTuple

ON_PLANE = 4e-15                                # of the terms compared: a vertex nearer than this lies on the plane


class Cells(NamedTuple):
    """Simplices inside each of which every swap has one winner, N of them."""

    volume: Any                                 # [N], shares of the volume
    vertices: Any                               # [N, K, K], the last axis is w
    owner: Any                                  # int [N], the row of logits
    winners: Any                                # int [N], of all swaps so far, as digits to base K

    def at(self, index):
        return Cells(*(field[index] for field in self))


def joined(xp, parts):
    """Several `Cells` as one."""
    return Cells(*(xp.concatenate(fields) for fields in zip(*parts)))


def swaps(categories):
    """The order as it is, then with each pair exchanged: K (K-1) / 2 + 1 lists."""
    found = [list(range(categories))]
    for i, j in itertools.combinations(range(categories), 2):
        order = list(range(categories))
        order[i], order[j] = j, i
        found.append(order)
    return found


def cells(xp, phi):
    """Cells of logits phi [M, K].

    For each swap the best category so far meets the next one; no category is found by comparing inside a cell,
    however thin it is.
    """
    M, K = phi.shape
    vertices = xp.broadcast_to(xp.eye(K), (M, K, K))
    found = Cells(xp.ones(M), vertices, xp.arange(M), xp.zeros(M, xp.int64))
    for order in swaps(K):
        found = found._replace(winners=found.winners * K)           # the first digit of this swap: category 0
        for j in range(1, K):
            found = meet(xp, found, phi, xp.asarray(order), j)
    return found


def meet(xp, found, phi, order, j):
    """Cells cut where category j ties with the winner so far, and the winner of each."""
    K, done = phi.shape[1], []
    while len(found.volume):
        best, N = found.winners % K, xp.arange(len(found.volume))
        gap = phi[found.owner, best] - phi[found.owner, j]          # [N]; j wins where w_best > exp(gap) w_j
        left = xp.exp(-xp.maximum(gap, 0))[:, None] * xp.take_along_axis(
            found.vertices, order[best][:, None, None], -1)[..., 0]                     # [N, K]
        right = xp.exp(xp.minimum(gap, 0))[:, None] * found.vertices[:, :, order[j]]    # [N, K]
        height = xp.where(abs(left - right) <= ON_PLANE * (left + right), 0, left - right)
        low, high = height.argmin(1), height.argmax(1)
        bottom, top = height[N, low], height[N, high]
        crossed = (bottom < 0) & (top > 0)
        settled = found._replace(winners=found.winners + xp.where(top > 0, j - best, 0))
        done.append(settled.at(~crossed))
        found, low, high = found.at(crossed), low[crossed], high[crossed]
        top, bottom = top[crossed], -bottom[crossed]                # the edge is split in these proportions
        found = joined(xp, [split(xp, found, high, low, top, bottom), split(xp, found, low, high, bottom, top)])
    return joined(xp, done)


def split(xp, found, stays, gone, near, far):
    """The part of each simplex beside the vertex `stays`: `gone` moves to where near : far divide their edge."""
    N = xp.arange(len(near))
    near, far = near / (near + far), far / (near + far)             # both to full relative precision
    vertices = found.vertices.copy()
    vertices[N, gone] = far[:, None] * vertices[N, stays] + near[:, None] * vertices[N, gone]
    return found._replace(volume=found.volume * near, vertices=vertices)


def nodes(xp, phi):
    """Nodes that integrate products of two shares over every region with the same winners, K for each region.

    phi [M, K] -> weight [M, R], w [M, R, K], winners int [M, R, swaps]; rows with fewer regions end in weight 0.
    """
    M, K = phi.shape
    found, count = cells(xp, phi), len(swaps(K))
    key, region = xp.unique(found.owner * K ** count + found.winners, return_inverse=True)
    region = region.reshape(-1)                                     # [N]

    def total(x):                                                   # sums within regions: [N] -> [R]
        return xp.bincount(region, x, len(key))

    volume = total(found.volume)
    size = xp.where(volume > 0, volume, 1)                          # a volume may underflow to 0
    centre = found.vertices.mean(1)                                 # [N, K]
    mean = xp.stack([total(found.volume * centre[:, i]) for i in range(K)], -1) / size[:, None]     # [R, K]
    inside = found.vertices - centre[:, None]                       # [N, K, K]
    away = centre - mean[region]                                    # [N, K]
    moment = xp.einsum("nvi,nvj->nij", inside, inside) / (K * (K + 1)) + away[:, :, None] * away[:, None]
    covariance = xp.stack([total(found.volume * moment[:, i, j]) for i in range(K) for j in range(K)], -1)
    covariance = covariance.reshape(-1, K, K) / size[:, None, None]
    points = mean[:, None, :-1] + xp.einsum("rij,vj->rvi", root(xp, covariance), regular(xp, K - 1))    # [R, K, K-1]
    w = xp.concatenate([points, 1 - points.sum(-1, keepdims=True)], -1)                 # [R, K, K]
    owner, digits = key // K ** count, key % K ** count
    winners = xp.stack([digits // K ** (count - 1 - n) % K for n in range(count)], -1)  # [R, swaps]
    place = xp.arange(len(key)) - xp.searchsorted(owner, owner)     # of a region among its owner's
    shape = (M, int(place.max()) + 1, K)
    weights, ws, win = xp.zeros(shape), xp.full((*shape, K), 1 / K), xp.zeros((*shape, count), xp.int64)
    weights[owner, place], ws[owner, place], win[owner, place] = (volume / K)[:, None], w, winners[:, None]
    return weights.reshape(M, -1), ws.reshape(M, -1, K), win.reshape(M, -1, count)


def regular(xp, n):
    """n + 1 points in n dimensions with mean 0 and covariance 1 under equal weights: [n + 1, n]."""
    points = xp.zeros((n + 1, n))
    for i in range(n):
        left = n - i                                                # points not yet told apart, but one
        points[i, i] = sqrt((n + 1) * left / (left + 1))
        points[i + 1:, i] = -points[i, i] / left
    return points


def root(xp, a):
    """Lower root of the leading block of covariances, 0 along directions of no width: [R, K, K] -> [R, K-1, K-1]."""
    n = a.shape[-1] - 1
    found = xp.zeros((len(a), n, n))
    for j in range(n):
        pivot = xp.sqrt(xp.maximum(a[:, j, j] - (found[:, j, :j] ** 2).sum(-1), 0))     # [R]
        found[:, j, j] = pivot
        for i in range(j + 1, n):
            rest = a[:, i, j] - (found[:, i, :j] * found[:, j, :j]).sum(-1)
            found[:, i, j] = xp.where(pivot > 0, rest / xp.where(pivot > 0, pivot, 1), 0)
    return found
