"""Sweep files: each has PRESET, SEEDS and sweep(); run by `emojax sweep`."""
