"""The plan of a fused step: its parts in stages of jobs on offsets, from the structure of a model.

    pixels -> encoder -> latent -> decoder, cost -> decoder backward -> latent -> encoder backward -> update

Workers meet between stages. The decoder is that of sampled codes or, for the exact gradient, that of all codes.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npdvae.fused.encoder import Encoder
from npdvae.fused.exact import Exact
from npdvae.fused.frame import Frame, in_float32
from npdvae.fused.latent import Latent
from npdvae.fused.memory import Region, layers, up
from npdvae.fused.sampled import Sampled
from npdvae.fused.update import Update
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.target import PICK_PANEL

MOST_STEPS = 1024                               # of one call of the workers
FEW = 1 << 16                                   # parameters that fit a core's own cache, with what else a step reads


class FusedGradient(NamedTuple):
    """The estimator in the form that `jobs` knows."""

    kind: int
    samples: int
    divide: int = 0
    tracks: int = 0                             # whether a running mean of the cost is kept


class Through(NamedTuple):
    """A stage done in chunks of examples or codes, each of which goes through all its jobs."""

    chunks: int
    jobs: list


class Plan:
    """Offsets, tables and the layers of one model at one batch size; mode, levels and sparse are the encoder's.

    bfloat16: whether the products of training steps round their operands.
    """

    def __init__(self, model, batch, gradient: FusedGradient, mode, levels, sparse, *, bfloat16=False):
        self.batch, self.gradient, self.levels = batch, gradient, levels
        self.D, self.K = model.latent.latents, model.latent.categories
        self.learned = model.latent.prior.name == "learned"
        region, integers = Region(), Region()
        encoder = layers(region, "encoder", model.encoder.sizes, sparse)
        decoder = layers(region, "decoder", model.decoder.sizes, True)
        self.layers, self.prior = encoder + decoder, region.take(self.D * self.K)
        self.span = region.size
        region.take(2 * self.span)              # first and second moments
        self.scalars = region.take((MOST_STEPS + 1) * jobs.STEP_SCALARS)
        f = self.frame = Frame(batch, model.pixels, self.D, self.K, gradient.samples,
                               jobs.ACTIVATIONS[model.encoder.activation], self.chains() and not bfloat16,
                               region.take(PICK_PANEL), bfloat16)
        self.encoder = Encoder(f, encoder, mode, levels, sparse, region, integers, gradient.kind != jobs.EXACT)
        self.sampled = Sampled(f, decoder, self.encoder.x, region, integers)
        self.latent = Latent(f, gradient, self.prior if self.learned else None, self.encoder, self.sampled, region,
                             integers)
        self.exact = (Exact(f, decoder, self.span, self.encoder, self.latent, region, integers)
                      if gradient.kind == jobs.EXACT else None)
        self.update = Update(f, self.span)
        parts: tuple = (self.encoder, self.latent, self.sampled, self.exact, self.update)
        self.scratch_size = up(max(part.scratch for part in parts if part), 16)
        self.i_scratch_size = up(max(self.encoder.i_scratch, self.latent.i_scratch), 16)
        self.region, self.integers = region, integers

    def chains(self):
        """Whether a chunk of examples goes through the step up to the weight gradients in one go: no barriers between.

        That reads every weight for every chunk, which pays where they are few.
        """
        return (self.span <= FEW and not self.learned
                and self.gradient.kind not in (jobs.LEAVE_ONE_OUT, jobs.EXACT))

    def build(self, workers):
        """mem, ints, scratch of both kinds, and the tables of training and of evaluation: (jobs, stages) each."""
        scratch = self.region.take(workers * self.scratch_size)
        i_scratch = self.integers.take(workers * self.i_scratch_size)
        mem, ints = self.region.array(np.float32), self.integers.array(np.int32)
        self.sampled.fill(ints)
        self.latent.fill(mem, ints)
        if self.exact:
            self.exact.fill(mem, ints)
        training = self.exact_training(self.exact) if self.exact else self.training()
        return mem, ints, scratch, i_scratch, encode(training), encode(self.evaluation())

    def to_logits(self, encoder):
        """Stages from the pixels to the logits; beside the first of them the prior."""
        pixels, *layers = encoder.forward()
        return [[*pixels, *self.latent.log_prior()], *layers]

    def forward(self, encoder, decoder):
        """Stages up to the cost of sampled codes."""
        return [*self.to_logits(encoder), [self.latent.forward(decoder.frame.S)], *decoder.forward()]

    def backward(self):
        """Stages from there to the gradients of all activations."""
        encoder = [[self.latent.backward()], *self.encoder.backward()]
        if self.gradient.kind in jobs.PATHWISE:
            return [*self.sampled.backward(to_codes=True), *encoder]
        return beside(self.sampled.backward(to_codes=False), encoder)   # the encoder's need only the costs

    def training(self):
        """A step: forward, backward, and the update of every parameter."""
        update, encoder, decoder, S = self.update, self.encoder, self.sampled, self.frame.S
        return self.chain([*self.forward(encoder, decoder), *self.backward(), [
            *update.hidden(decoder, S), *update.hidden(encoder, 1),
            update.picked_weight_gradient(decoder.layers[0], decoder.codes, decoder.dh[0], S), update.first(encoder),
            *update.prior(self.latent), self.report(S, self.gradient.tracks)]])

    def exact_training(self, exact):
        """A step with the exact gradient: the decoder's weights are updated as soon as nobody reads them any more."""
        update, encoder = self.update, self.encoder
        pixels, first, *layers = self.to_logits(encoder)
        last, *others = exact.weight_gradients()
        return [pixels, [*first, *exact.turn_images()], *layers, [self.latent.forward(0)], *exact.choose(),
                Through(exact.chunks, exact.decode()),
                [exact.latent_backward(), exact.picked_weight_gradient(), *others], *encoder.backward(),
                [last, *update.hidden(encoder, 1), update.first(encoder), *update.prior(self.latent),
                 update.report(self.latent, exact.loss, 1)]]

    def evaluation(self):
        """Forward alone, of one sample, with its sums, in float32."""
        encoder, decoder = in_float32(self.encoder), in_float32(self.sampled.once())
        return self.chain([*self.forward(encoder, decoder), [self.report(1, 0)]])

    def report(self, S, tracks):
        return self.update.report(self.latent, self.sampled.cost.loss, S, tracks)

    def chain(self, stages):
        """The stages; in a chain all but the last go through in one, then `invert`, which reads all rows."""
        if not self.frame.chained:
            return stages
        *stages, last = stages
        examples = [job for stage in stages for job in stage]
        chunks = examples[0][1]
        return [Through(chunks, [job for job in examples if job[0] != "invert"]),
                [job for job in examples if job[0] == "invert"], last]


def beside(a, b):
    """Two chains of stages at once, ending together."""
    n = max(len(a), len(b))
    a, b = ([[]] * (n - len(chain)) + chain for chain in (a, b))
    return [x + y for x, y in zip(a, b)]


def encode(stages):
    """Stages of jobs (kind, chunks, arguments by name) as an int64 table [jobs, arguments] and stages [n, 3].

    A stage: its first job, the job after its last, and the number of chunks that go through all its jobs, or 0.
    """
    stages = [stage if isinstance(stage, Through) else Through(0, stage) for stage in stages]
    table = np.zeros((sum(len(stage.jobs) for stage in stages), jobs.MOST_ARGUMENTS), np.int64)
    for row, (kind, chunks, arguments) in zip(table, (job for stage in stages for job in stage.jobs)):
        fields = jobs.FIELDS[kind]
        if set(fields) != set(arguments):
            raise ValueError(f"job {kind}: arguments {sorted(set(fields) ^ set(arguments))} do not match")
        row[:2 + len(fields)] = [jobs.KINDS[kind], chunks, *(arguments[f] for f in fields)]
    ends = np.cumsum([0, *(len(stage.jobs) for stage in stages)])
    return table, np.array([(first, end, stage.chunks) for first, end, stage in zip(ends, ends[1:], stages)])
