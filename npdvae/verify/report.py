"""What a check found: verdict, direction and size of the bias, and how little could have been seen."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from npdvae.types import Array


@dataclass(frozen=True)
class Report:
    """Verdict of `check_unbiased`; `print(report)` says it in words, `report.passed` in one bit.

    All arrays [B, D, K]; intervals hold together, at the moment of stopping, with probability 0.99.
    """

    verdict: str                                # PASS, FAIL or INCONCLUSIVE
    reason: str
    method: str                                 # where the bounds come from
    samples: int
    evidence: float                             # log10 E_n; FAIL at -log10(alpha)
    true: np.ndarray
    mean: np.ndarray
    low: np.ndarray                             # interval of the bias
    high: np.ndarray
    sigma: np.ndarray                           # standard deviation of one estimate
    shrink: float                               # <mean, true> / <true, true>: 1 when unbiased
    shrink_interval: tuple[float, float]
    detectable: float                           # smallest bias that would have been seen, in standard deviations
    guaranteed: bool = field(default=True)      # False: plain standard errors, no bounds were known

    @property
    def passed(self) -> bool:
        return self.verdict == "PASS"

    @property
    def bias(self) -> Array:
        """Estimated bias: [B, D, K]."""
        return self.mean - self.true

    @property
    def relative_bias(self) -> float:
        """|bias| / |true gradient|."""
        return float(np.linalg.norm(self.bias) / np.linalg.norm(self.true)) if self.true.any() else float("nan")

    @property
    def direction(self) -> float:
        """Cosine of the estimated bias with the true gradient: -1 shrinks, +1 inflates, 0 turns."""
        norm = np.linalg.norm(self.bias) * np.linalg.norm(self.true)
        return float((self.bias * self.true).sum() / norm) if norm > 0 else float("nan")

    def largest(self) -> tuple[int, ...]:
        """Index (b, d, k) of the bias that is largest in standard errors, where there is any."""
        ratio = np.abs(self.bias) / np.maximum(self.sigma, 1e-12 * np.abs(self.true).max() + 1e-300)
        return tuple(int(i) for i in np.unravel_index(ratio.argmax(), ratio.shape))

    def __str__(self) -> str:
        lines = [f"{self.verdict} after {self.samples} samples: {self.reason}",
                 f"  method              {self.method}",
                 f"  evidence of bias    E = 10^{self.evidence:.1f}"]
        if self.samples:
            at = self.largest()
            kind = "99 % interval" if self.guaranteed else "99 % by the normal law, no guarantee"
            lines += [f"  shrink factor       {self.shrink:.4f}  [{self.shrink_interval[0]:.4f}, "
                      f"{self.shrink_interval[1]:.4f}], {kind}; 1 when unbiased",
                      f"  estimated bias      {self.relative_bias:.3g} of the gradient, cosine with it "
                      f"{self.direction:+.2f}",
                      f"  largest at {at}  {self.bias[at]:+.4g}  [{self.low[at]:+.4g}, {self.high[at]:+.4g}]; "
                      f"gradient {self.true[at]:+.4g}"]
        if self.guaranteed and np.isfinite(self.detectable):
            lines.append(f"  would have seen     {self.detectable:.3g} standard deviations, at most "
                         f"{self.detectable * self.sigma.max():.3g}")
        return "\n".join(lines)
