"""The callbacks, under the name that they have in Keras."""

from recurrax.saving.backup import BackupAndRestore as BackupAndRestore
from recurrax.training.callbacks import *  # noqa: F403
