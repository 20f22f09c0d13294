"""From media files and annotations to batches. Uses NumPy only; does not import jax."""
