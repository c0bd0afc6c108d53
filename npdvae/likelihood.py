"""The Bernoulli decoder distribution: cost = -log p(x | z) in nats (eq. 75), for codes per image or shared."""


class Bernoulli:
    """cost[s, b] of pixel logits [S, B, P], or [S, 1, P] for codes that the whole batch shares."""

    def __init__(self, ops):
        self.ops = ops

    def forward(self, logits, x):
        """logits [S, B or 1, P], x [B, P] -> cost [S, B]."""
        if logits.shape[1] == 1:
            return self.ops.bce_shared(logits[:, 0], x)             # [S, B]
        return self.ops.bce(logits, x)                              # [S, B]

    def backward(self, dcost, logits, x):
        """Adjoint w.r.t. the logits: dcost [S, B] -> [S, B or 1, P]."""
        if logits.shape[1] == 1:
            return self.ops.bce_shared_backward(dcost, logits[:, 0], x)[:, None]   # [S, 1, P]
        return self.ops.bce_backward(dcost, logits, x)              # [S, B, P]
