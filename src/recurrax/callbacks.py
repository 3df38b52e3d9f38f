"""The callbacks, under the name that they have in Keras."""

from recurrax.training.callbacks import *  # noqa: F403
