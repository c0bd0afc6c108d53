"""The CUDA side of training: device, matrix products, buffers and the captured step. Imports CuPy only when used."""
