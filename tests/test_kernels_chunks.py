"""Jobs of a layer in bfloat16, chunk by chunk: each entry is written once, by sums of rounded operands. Share: 8 s."""
import numpy as np
import pytest

from npdvae.fused import bfloat16 as plan
from npdvae.fused.frame import Frame
from npdvae.fused.layers import NO_COST, Cost
from npdvae.fused.memory import Matrix, Region, layer, matrix, up, view
from npdvae.kernels.cpu import bfloat16, calls, fused_bfloat16, jobs
from npdvae.kernels.cpu.target import PANEL, PICK_PANEL
from tests.kernels import from_python
from tests.test_numba_bfloat16 import PLAIN, close, function, rounded, slope

pytestmark = pytest.mark.skipif(bfloat16.reason_unfit() is not None, reason=str(bfloat16.reason_unfit()))
ACTIVATIONS = {"linear": jobs.LINEAR, "relu": jobs.RELU, "tanh": jobs.TANH}
SCALE, S = 0.25, 3                              # an odd number of rows where that of examples is odd
f4 = np.float32


class Layer:
    """Memory for one layer on S rows of each of `batch` examples, random numbers in all of it, zeros in padding."""

    def __init__(self, inputs, outputs, batch, picks=False, parts=0, seed=0):
        region, rows, draw = Region(), batch * S, np.random.default_rng(seed)
        region.take(3)                          # no offset is 0
        self.layer = layer(region, "some", inputs, outputs, picks)
        self.span = region.size
        region.take(2 * self.span)
        zero, before = region.take(PICK_PANEL), region.take(400)
        self.frame = Frame(batch, outputs, 1, inputs, S, jobs.LINEAR, False, zero, bfloat16=True)
        self.x, self.y = matrix(region, rows, inputs), matrix(region, rows, outputs)
        self.dx, self.target = matrix(region, rows, inputs), matrix(region, batch, outputs)
        self.loss = Matrix(region.take(rows * max(parts, 1)), parts)
        self.scalars = region.take(2 * jobs.STEP_SCALARS)
        self.scratch = region.take(max(plan.scratch([self.layer]), plan.gradient_scratch()))
        self.mem, self.rows, self.batch = region.array(f4), rows, batch
        self.w, self.b = draw.normal(0, 1, (inputs, outputs)).astype(f4), draw.normal(0, 1, outputs).astype(f4)
        self.layer.put(self.mem, 0, self.w, self.b)
        self.mem[before:before + 400] = 1e3     # what no row reads
        for m, n, width in ((self.x, rows, inputs), (self.y, rows, outputs), (self.target, batch, outputs)):
            view(self.mem, m, n, width)[:] = draw.normal(0, 1, (n, width))
        self.mem[self.scalars:self.scalars + 5] = 0.01, 0.1, 0.2, 1.5, 1e-3
        self.mem[self.scalars + jobs.SCALE], self.mem[self.scalars + jobs.GRADIENT] = SCALE, jobs.AT_ONCE
        self.mem[self.scratch:], self.used = np.nan, 0

    def chunks(self, job, examples):
        """Memory before its scratch after each chunk alone, and what the chunk has changed."""
        kind, chunks, fields = job
        a = np.zeros(jobs.MOST_ARGUMENTS, np.int64)
        a[:2 + len(fields)] = jobs.KINDS[kind], chunks, *(fields[name] for name in jobs.FIELDS[kind])
        assert set(fields) == set(jobs.FIELDS[kind])
        names, run = calls.names(calls.JOBS[kind]), from_python(calls.JOBS[kind])
        for c in range(chunks):
            mem = self.mem.copy()
            given = dict(c=c, a=a, mem=mem, examples=examples, scalars=self.scalars, scratch=self.scratch)
            run(*(given[name] for name in names))
            self.used = max(self.used, *1 + np.flatnonzero(~np.isnan(mem[self.scratch:])))
            yield mem[:self.scratch], mem[:self.scratch].view(np.uint32) != self.mem[:self.scratch].view(np.uint32)

    def whole(self, job, examples=None):
        """Memory after all chunks in any order, and how often each entry was changed."""
        found, times = self.mem[:self.scratch].copy(), np.zeros(self.scratch, int)
        for mem, changed in self.chunks(job, self.batch if examples is None else examples):
            found[changed], times = mem[changed], times + changed
        return found, times




@pytest.mark.parametrize("batch, S, all_panels, panels, expected", [
    (500, 1, 10, None, (3, 16, 2, 32)), (35, 2, 10, None, (2, 6, 1, 5)), (272, 1, 10, None, (3, 10, 2, 17)),
    (35, 2, 8, None, (1, 6, 1, 5)), (35, 2, 9, None, (2, 6, 1, 5)), (100, 1, 25, 7, (7, 4, 2, 7)),
    (35, 2, 10, 10, (10, 2, 3, 5)), (500, 1, 64, 7, (7, 16, 2, 32))])
def test_work_is_cut_into_eight_chunks_of_at_most_sixteen_tiles(batch, S, all_panels, panels, expected):
    """Of an even number of tiles, which are multiplied by twos."""
    frame = Frame(batch, 1, 1, 1, S, jobs.LINEAR, False, 0, bfloat16=True)
    share = plan.shares(frame, S, all_panels, panels)
    assert share == dict(zip(("panels", "tiles", "groups", "all_tiles"), expected), all_panels=all_panels)
    assert plan.chunks(share) == -(-all_panels // expected[0]) * expected[2]


@pytest.mark.parametrize("tiles, kind, batch", [(1, "relu", 23), (2, "relu", 23), (16, "relu", 23), (16, "relu", 1),
                                                (2, "linear", 23), (2, "tanh", 13)])
def test_a_layer_is_its_product(tiles, kind, batch, monkeypatch):
    monkeypatch.setattr(plan, "GROUP", tiles)
    some = Layer(70, 300, batch)
    view(some.mem, some.y, up(some.rows, 16), 320)[:] = np.nan
    found, times = some.whole(plan.dense(some.frame, some.layer, some.x, some.y, S, ACTIVATIONS[kind], NO_COST, None))
    x, y = view(some.mem, some.x, some.rows, 70), view(found, some.y, some.rows, 300)
    close(y, rounded(x), rounded(some.w), some.b.astype(float), function(kind) if kind != "linear" else lambda y: y)
    written = view(times, some.y, up(some.rows, 16), 320)           # ten panels of whole tiles
    assert (written == 1).all() and times.sum() == written.size


@pytest.mark.parametrize("panels, tiles, examples", [(7, 2, 23), (7, 16, 21), (10, 2, 3), (1, 16, 23)])
def test_a_last_layer_leaves_costs_and_their_gradient(panels, tiles, examples, monkeypatch):
    """Of the examples there are; in float32, sums of up to 300 costs, by formulas that agree to 2^-20."""
    monkeypatch.setattr(plan, "GROUP", tiles)
    parts = -(-10 // panels)
    some = Layer(40, 300, 23, parts=parts)
    losses = slice(some.loss.offset, some.loss.offset + some.rows * parts)
    some.mem[losses], view(some.mem, some.y, up(some.rows, 16), 320)[:] = np.nan, np.nan
    found, times = some.whole(plan.dense(some.frame, some.layer, some.x, some.y, S, jobs.LINEAR,
                                         Cost(some.target, some.loss), panels), examples)
    n = examples * S
    a = rounded(view(some.mem, some.x, n, 40)) @ rounded(some.w) + some.b
    x = np.repeat(view(some.mem, some.target, examples, 300).astype(float), S, 0)
    cost, y = np.logaddexp(0, a) - x * a, view(found, some.y, n, 300)
    assert np.abs(y - SCALE / S * (1 / (1 + np.exp(-a)) - x)).max() <= 1e-5
    for part in range(parts):
        here = cost[:, part * panels * PANEL:(part + 1) * panels * PANEL].sum(1)
        loss = found[losses].reshape(-1, parts)
        assert np.abs(loss[:n, part] - here).max() <= 1e-5 * abs(cost).sum(1).max()
    assert (times[losses].reshape(-1, parts)[:n] == 1).all() and not times[losses].reshape(-1, parts)[n:].any()
    written = view(times, some.y, up(some.rows, 16), 320)
    assert (written == 1).all() and times.sum() == written.size + n * parts


@pytest.mark.parametrize("tiles, kind, picks", [(1, "relu", False), (2, "tanh", False), (16, "linear", True),
                                                (2, "relu", True)])
def test_a_gradient_goes_back_through_a_layer(tiles, kind, picks, monkeypatch):
    """To 300 inputs, with weights in either kind of panel; where an output is 0 or below, a ReLU passes nothing."""
    monkeypatch.setattr(plan, "GROUP", tiles)
    some = Layer(300, 150, 23, picks)
    view(some.mem, some.dx, up(some.rows, 16), 320)[:] = np.nan
    view(some.mem, some.x, some.rows, 300)[:, ::5] = 0
    found, times = some.whole(plan.backward(some.frame, some.layer, some.y, some.dx, some.x, S, ACTIVATIONS[kind]))
    x, dy = view(some.mem, some.x, some.rows, 300), rounded(view(some.mem, some.y, some.rows, 150))
    by = slope(kind, x.astype(float)) if kind != "linear" else 1.0
    dx, sizes = view(found, some.dx, some.rows, 300), (abs(dy) @ abs(rounded(some.w)).T).max()
    assert np.abs(dx - (dy @ rounded(some.w).T) * by).max() <= (150 + 4) * 2.0 ** -24 * sizes * np.abs(by).max()
    written = view(times, some.dx, up(some.rows, 16), 320)
    assert (written == 1).all() and times.sum() == written.size


def test_scratch_is_what_a_whole_group_uses_from_the_wider_side(monkeypatch):
    monkeypatch.setattr(plan, "GROUP", 2)
    back, on = Layer(40, 300, 23), Layer(300, 40, 23)
    back.whole(plan.backward(back.frame, back.layer, back.y, back.dx, back.x, S, jobs.LINEAR))
    on.whole(plan.dense(on.frame, on.layer, on.x, on.y, S, jobs.LINEAR, NO_COST, None))
    assert back.used == plan.scratch([back.layer]) == plan.scratch([back.layer, on.layer])
    assert on.used == plan.scratch([on.layer]) - 16 * 16            # where nothing is turned


@pytest.mark.parametrize("batch, examples", [(23, 23), (23, 22), (32, 32), (26, 4), (47, 47)])
def test_a_weight_is_updated_with_its_gradient(batch, examples, monkeypatch):
    """The first moment is 0.1 of it, of the examples there are; blocks of 96 rows where no compiler has read 512."""
    monkeypatch.setattr(plan, "PANELS", 2)
    monkeypatch.setattr(plan, "TILES", 2)
    if PLAIN:
        for module in (plan, fused_bfloat16):
            monkeypatch.setattr(module, "BLOCK", 96)
    some = Layer(150, 70, batch)
    for m, width in ((some.x, 150), (some.y, 70)):
        view(some.mem, m, up(some.rows, 16), width)[examples * S:] = 1e3        # of no example
    found, times = some.whole(plan.weight_gradient(some.frame, some.layer, some.x, some.y, S, some.span), examples)
    x, dy = (view(some.mem, m, examples * S, width) for m, width in ((some.x, 150), (some.y, 70)))
    m, mb = (g / f4(0.1) for g in some.layer.get(found, some.span))
    close(m, rounded(x).T, rounded(dy))
    assert np.abs(mb - dy.sum(0, dtype=float)).max() <= (examples * S + 4) * 2.0 ** -24 * abs(dy).sum(0).max()
    v, vb = (g / f4(0.2) for g in some.layer.get(found, 2 * some.span))
    assert np.abs(v - m ** 2).max() <= 1e-6 * v.max() and np.abs(vb - mb ** 2).max() <= 1e-6 * vb.max()
    w, b = some.layer.get(found, 0)
    for p, before, m_, v_ in ((w, some.w, m, v), (b, some.b, mb, vb)):
        assert np.abs(before - 0.01 * 0.1 * m_ / (1.5 * np.sqrt(0.2 * v_) + 1e-3) - p).max() <= 1e-6
    for base in (some.span, 2 * some.span):
        weight, bias = some.layer.get(times, base)
        assert (weight == 1).all() and (bias == 1).all()
    assert not PLAIN or examples < 22 or some.used == plan.gradient_scratch()
    assert times.max() == 1 and times[some.span:].sum() == 2 * (150 * 70 + 70)     # steps may be below a last digit
