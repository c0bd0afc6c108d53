"""The numbers that the .cu and .cuh files give to names; tests/test_cuda_constants.py holds them to the files' text."""
from __future__ import annotations

ACTIVATIONS = {"relu": 0, "leaky_relu": 1, "tanh": 2, "identity": 3}        # activations.cuh
IDENTITY = ACTIVATIONS["identity"]
PIXELS = {"grey": 0, "drawn": 1, "thresholded": 2}                          # binarize.cu: how a target comes about
BASELINES = {"constant": 0, "leave_one_out": 1, "mean": 2}                  # reinforce.cu
CLOCK = {"step": 0, "batch": 1, "seed": 2}                                  # schedule.cuh: entries of the clock
SETTINGS = {"rate": 0, "scale": 1, "kl_weight": 2, "temperature": 3}        # schedule.cuh: columns of the schedule
BLOCK = {"columns": 32, "strips": 8, "bins": 16}                            # linear.cu: of one block
THREADS = 256                                                               # common.cuh: of a block, at most
