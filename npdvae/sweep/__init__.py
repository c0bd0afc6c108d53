"""Sweeps: a grid of settings becomes run folders; any engine runs what they lack; results as a table and a figure."""
