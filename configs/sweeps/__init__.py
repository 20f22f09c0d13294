"""Sweep files: PRESET, SEEDS and sweep(); run by emojax.sweep."""
