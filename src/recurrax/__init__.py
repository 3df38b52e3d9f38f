"""recurrax: the Keras recurrent API on JAX, where the loop is a compiler."""

from recurrax.loop import scan as scan

__all__ = ["scan"]
