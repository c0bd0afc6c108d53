"""The captured engine: a training step as a CUDA graph over buffers that never move. Imports CuPy only when used."""
