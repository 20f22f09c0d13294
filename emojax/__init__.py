"""emojax: multimodal emotion recognition and reasoning in JAX and Flax."""

__version__ = "0.1.0"
