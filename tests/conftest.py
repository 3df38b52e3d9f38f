"""Keras is the reference that results are held against; it runs on JAX as well."""

import os

os.environ["KERAS_BACKEND"] = "jax"
