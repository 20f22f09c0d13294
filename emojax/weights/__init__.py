"""Weights of other projects in, ours out."""
