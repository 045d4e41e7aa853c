"""Measurements: every pair interleaved in one run, medians over rounds, ratios rather than single times."""
