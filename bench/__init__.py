"""Benchmarks against PyTorch and JAX, each contestant in a process of its own: validated first, then timed in turns."""
