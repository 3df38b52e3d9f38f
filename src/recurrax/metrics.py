"""The metrics, under the name that they have in Keras."""

from recurrax.training.metrics import *  # noqa: F403
