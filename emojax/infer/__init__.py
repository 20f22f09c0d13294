"""Inference: generation, label probabilities, and predictions for files and recordings."""
