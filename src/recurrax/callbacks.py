"""The callbacks, under the name that they have in Keras."""

from recurrax.saving import backup as _backup
from recurrax.training.callbacks import *  # noqa: F403

BackupAndRestore = _backup.BackupAndRestore
