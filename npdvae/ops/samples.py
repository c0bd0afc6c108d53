"""The mean over samples, of which there is often one."""


def samples_mean(x):
    """Mean of the samples, [S, ...] -> [...]; a single one is its own."""
    return x[0] if len(x) == 1 else x.mean(0)
