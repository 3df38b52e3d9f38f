"""recurrax: the Keras recurrent API on JAX, where the loop is a compiler."""

from recurrax.garbage import uncollected as _uncollected

with _uncollected():  # importing leaves no garbage: looking for it takes a quarter of the time
    from recurrax import activations as activations
    from recurrax import backend as backend
    from recurrax import callbacks as callbacks
    from recurrax import config as config
    from recurrax import constraints as constraints
    from recurrax import dtype_policies as dtype_policies
    from recurrax import initializers as initializers
    from recurrax import layers as layers
    from recurrax import losses as losses
    from recurrax import metrics as metrics
    from recurrax import mixed_precision as mixed_precision
    from recurrax import models as models
    from recurrax import ops as ops
    from recurrax import optimizers as optimizers
    from recurrax import preprocessing as preprocessing
    from recurrax import random as random
    from recurrax import regularizers as regularizers
    from recurrax import saving as saving
    from recurrax import tree as tree
    from recurrax import utils as utils
    from recurrax import view as view
    from recurrax.constraints import Constraint as Constraint
    from recurrax.dtypes import DTypePolicy as DTypePolicy
    from recurrax.initializers import Initializer as Initializer
    from recurrax.layers import Input as Input
    from recurrax.layers import InputSpec as InputSpec
    from recurrax.layers import Layer as Layer
    from recurrax.layers.graph import SymbolicTensor as KerasTensor
    from recurrax.loop import Explanation as Explanation
    from recurrax.loop import explain as explain
    from recurrax.loop import scan as scan
    from recurrax.losses import Loss as Loss
    from recurrax.metrics import Metric as Metric
    from recurrax.models import Model as Model
    from recurrax.models import Sequential as Sequential
    from recurrax.optimizers import Optimizer as Optimizer
    from recurrax.regularizers import Regularizer as Regularizer
    from recurrax.variable import StatelessScope as StatelessScope
    from recurrax.variable import Variable as Variable
    from recurrax.variable import name_scope as name_scope

__version__ = "0.1.0"

__all__ = [
    "Constraint",
    "DTypePolicy",
    "Explanation",
    "Initializer",
    "Input",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "StatelessScope",
    "Variable",
    "activations",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "dtype_policies",
    "explain",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "name_scope",
    "ops",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "saving",
    "scan",
    "tree",
    "utils",
    "view",
]
