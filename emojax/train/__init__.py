"""Curriculum training: state, step, loop, checkpoints, logs."""
