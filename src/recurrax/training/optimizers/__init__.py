"""Optimizers under Keras's names, with its default values and numbers."""

from recurrax.registry import serialize as serialize
from recurrax.training import schedules as schedules
from recurrax.training.optimizers.adadelta import Adadelta as Adadelta
from recurrax.training.optimizers.adafactor import Adafactor as Adafactor
from recurrax.training.optimizers.adagrad import Adagrad as Adagrad
from recurrax.training.optimizers.adam import Adam as Adam
from recurrax.training.optimizers.adam import AdamW as AdamW
from recurrax.training.optimizers.adamax import Adamax as Adamax
from recurrax.training.optimizers.base import Optimizer as Optimizer
from recurrax.training.optimizers.from_optax import OptaxOptimizer as OptaxOptimizer
from recurrax.training.optimizers.ftrl import Ftrl as Ftrl
from recurrax.training.optimizers.lamb import Lamb as Lamb
from recurrax.training.optimizers.lion import Lion as Lion
from recurrax.training.optimizers.loss_scale import LossScaleOptimizer as LossScaleOptimizer
from recurrax.training.optimizers.nadam import Nadam as Nadam
from recurrax.training.optimizers.rmsprop import RMSprop as RMSprop
from recurrax.training.optimizers.sgd import SGD as SGD
from recurrax.training.optimizers.table import deserialize as deserialize
from recurrax.training.optimizers.table import get as get
