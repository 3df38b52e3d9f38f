"""The optimizers, under the name that they have in Keras."""

from recurrax.training.optimizers import *  # noqa: F403
