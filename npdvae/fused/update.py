"""The end of a fused step: every parameter updated behind its gradient, and the sums that the step reports."""
from __future__ import annotations

from npdvae.fused import bfloat16
from npdvae.fused.memory import up
from npdvae.kernels.cpu.target import GRADIENT_ROWS, PANEL

PANELS, TILES = 7, 22                           # of the weight in one chunk of its gradient over many rows, about
PICKED_GROUPS = 8                               # of a picked weight's rows


def weight_groups(l, whole=False):
    """Panels and tiles of weight rows in a chunk of a gradient, groups of such tiles, and all tiles."""
    all_tiles = up(l.inputs, GRADIENT_ROWS) // GRADIENT_ROWS
    tiles = all_tiles if whole else -(-all_tiles // -(-all_tiles // TILES))
    return 1 if whole else PANELS, tiles, -(-all_tiles // tiles), all_tiles


class Update:
    """Jobs on parameters, whose moments lie `span` and twice `span` behind them. A part: its `layers`, `h` and `dh`."""

    def __init__(self, frame, span):
        self.frame, self.span = frame, span
        self.scratch = (bfloat16.gradient_scratch() if frame.bfloat16 else
                        PANELS * PANEL * (TILES * GRADIENT_ROWS + 1))   # a chunk's gradient and its bias's

    def hidden(self, part, S):
        """Weights of all layers but the first, from the last one on."""
        return [self.weight_gradient(part.layers[i], part.h[i - 1], part.dh[i], S)
                for i in reversed(range(1, len(part.layers)))]

    def first(self, encoder):
        """The weight behind the pixels."""
        l, dy = encoder.layers[0], encoder.dh[0]
        if encoder.fours:
            return encoder.fours.weight_gradient(dy, self.span)
        if encoder.sparse:
            return self.picked_weight_gradient(l, encoder.ones, dy, 1)
        return self.weight_gradient(l, encoder.x, dy, 1)

    def weight_gradient(self, l, x, dy, S):
        if self.frame.bfloat16:
            return bfloat16.weight_gradient(self.frame, l, x, dy, S, self.span)
        panels, tiles, groups, all_tiles = weight_groups(l, whole=not self.frame.long(S))
        return ("weight_gradient", -(-l.panels // panels) * groups, dict(
            panels=panels, all_panels=l.panels, tiles=tiles, groups=groups, all_tiles=all_tiles, x=x.offset, ld_x=x.ld,
            inner=l.inputs, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias, span=self.span, S=S))

    def picked_weight_gradient(self, l, lists, dy, S):
        group = -(-l.inputs // PICKED_GROUPS)
        groups = -(-l.inputs // group)
        return ("picked_weight_gradient", l.panels * groups, dict(
            group=group, groups=groups, i_rows=lists.rows, ld_rows=lists.ld_rows, i_rows_count=lists.rows_count,
            inner=l.inputs, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias, span=self.span, S=S))

    def prior(self, latent):
        """The prior's logits, where they are learned."""
        if latent.prior is None:
            return []
        return [("prior_gradient", 1, dict(
            D=self.frame.D, K=self.frame.K, logits=latent.prior, log_p=latent.log_p, q=latent.q.offset,
            kl=latent.kl, ld_q=latent.q.ld, span=self.span, free_bits=latent.floor))]

    def report(self, latent, loss, S, tracks=0):
        """Sums of cost and KL over the batch; tracks: whether the running mean of the cost goes on."""
        return ("report", 1, dict(S=S, loss=loss.offset, parts=loss.ld, kl=latent.kl, D=self.frame.D, tracks=tracks))
