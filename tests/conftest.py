"""Set before anything imports Keras or JAX."""

import os

os.environ["KERAS_BACKEND"] = "jax"

from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")
