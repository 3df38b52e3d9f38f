"""Dtype policies (`keras.dtype_policies`)."""

from recurrax.dtypes import DTypePolicy as DTypePolicy
from recurrax.dtypes import get_policy as get
from recurrax.registry import deserialize as deserialize
from recurrax.registry import serialize as serialize

FloatDTypePolicy = DTypePolicy

__all__ = ["DTypePolicy", "FloatDTypePolicy", "deserialize", "get", "serialize"]
