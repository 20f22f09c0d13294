"""The training step, compiled for hardware that is not here: memory, time, collectives."""
