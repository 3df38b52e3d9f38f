"""Mixed precision (`keras.mixed_precision`)."""

from recurrax.dtypes import DTypePolicy as DTypePolicy
from recurrax.dtypes import dtype_policy as dtype_policy
from recurrax.dtypes import dtype_policy as global_policy
from recurrax.dtypes import set_dtype_policy as set_dtype_policy
from recurrax.dtypes import set_dtype_policy as set_global_policy
from recurrax.training.optimizers import LossScaleOptimizer as LossScaleOptimizer

Policy = DTypePolicy

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]
