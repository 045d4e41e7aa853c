"""Measurements: every pair interleaved in one run, medians over rounds, ratios rather than single times."""

import os

# Where it is set it names the kernels of some processor, which may halve what OpenBLAS computes on this one.
# OpenBLAS reads it when numpy is imported.
os.environ.pop("OPENBLAS_CORETYPE", None)
