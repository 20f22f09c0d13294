"""Whole jobs: what the commands and the Python API call."""
