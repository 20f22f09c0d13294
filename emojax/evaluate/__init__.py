"""Evaluation: parses answers, computes scores and statistics. emojax.reports renders them."""
