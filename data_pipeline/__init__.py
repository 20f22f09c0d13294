"""Media files and annotations to batches; NumPy only, no jax arrays."""
