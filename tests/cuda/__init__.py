"""Proof of the CUDA kernels without a GPU: NVRTC, an emulator on the CPU, and a stand-in for CuPy on top of it."""
