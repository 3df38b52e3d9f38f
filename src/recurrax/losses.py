"""The losses, under the name that they have in Keras."""

from recurrax.training.losses import *  # noqa: F403
