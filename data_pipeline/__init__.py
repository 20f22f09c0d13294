"""From media files and annotations to batches; never imports emojax or jax."""
