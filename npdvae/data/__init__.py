"""Data sets: embedded digits, MNIST, the user's own files; binarization; the figures to judge a result by."""
from npdvae.data.dataset import Dataset, hold_out
from npdvae.data.loading import load, names

__all__ = ["Dataset", "hold_out", "load", "names"]
