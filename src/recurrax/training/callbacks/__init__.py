"""Callbacks under Keras's names."""

from recurrax.training.callbacks.base import Callback as Callback
from recurrax.training.callbacks.callback_list import CallbackList as CallbackList
from recurrax.training.callbacks.csv_logger import CSVLogger as CSVLogger
from recurrax.training.callbacks.early_stopping import EarlyStopping as EarlyStopping
from recurrax.training.callbacks.history import History as History
from recurrax.training.callbacks.lambda_callback import LambdaCallback as LambdaCallback
from recurrax.training.callbacks.learning_rate_scheduler import (
    LearningRateScheduler as LearningRateScheduler,
)
from recurrax.training.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from recurrax.training.callbacks.progress_bar import ProgressBar as ProgressBar
from recurrax.training.callbacks.reduce_lr import ReduceLROnPlateau as ReduceLROnPlateau
from recurrax.training.callbacks.tensorboard import TensorBoard as TensorBoard
from recurrax.training.callbacks.terminate_on_nan import TerminateOnNaN as TerminateOnNaN
