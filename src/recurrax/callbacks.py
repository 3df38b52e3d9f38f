"""Callbacks under Keras's names."""

from recurrax.saving.backup import BackupAndRestore as BackupAndRestore
from recurrax.training.callbacks import Callback as Callback
from recurrax.training.callbacks import CallbackList as CallbackList
from recurrax.training.callbacks import CSVLogger as CSVLogger
from recurrax.training.callbacks import EarlyStopping as EarlyStopping
from recurrax.training.callbacks import History as History
from recurrax.training.callbacks import LambdaCallback as LambdaCallback
from recurrax.training.callbacks import LearningRateScheduler as LearningRateScheduler
from recurrax.training.callbacks import ModelCheckpoint as ModelCheckpoint
from recurrax.training.callbacks import ProgressBar as ProgressBar
from recurrax.training.callbacks import ReduceLROnPlateau as ReduceLROnPlateau
from recurrax.training.callbacks import TensorBoard as TensorBoard
from recurrax.training.callbacks import TerminateOnNaN as TerminateOnNaN
