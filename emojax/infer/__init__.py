"""Answering: generation, label probabilities, prediction of files."""
