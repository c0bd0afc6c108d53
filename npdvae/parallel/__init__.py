"""Data-parallel training: a batch in shares, their gradients added up by one tree, over any number of processes."""
