"""recurrax: the Keras recurrent API on JAX, where the loop is a compiler."""

from recurrax import activations as activations
from recurrax import callbacks as callbacks
from recurrax import constraints as constraints
from recurrax import initializers as initializers
from recurrax import layers as layers
from recurrax import models as models
from recurrax import ops as ops
from recurrax import random as random
from recurrax import regularizers as regularizers
from recurrax import saving as saving
from recurrax import utils as utils
from recurrax.layers import Input as Input
from recurrax.layers import InputSpec as InputSpec
from recurrax.layers import Layer as Layer
from recurrax.loop import scan as scan
from recurrax.models import Model as Model
from recurrax.models import Sequential as Sequential
from recurrax.training import losses as losses
from recurrax.training import metrics as metrics
from recurrax.training import optimizers as optimizers
from recurrax.variable import StatelessScope as StatelessScope
from recurrax.variable import Variable as Variable

__version__ = "0.1.0"
