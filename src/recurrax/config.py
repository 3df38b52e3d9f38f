"""Settings of the whole process (`keras.config`)."""

from recurrax.dtypes import dtype_policy as dtype_policy
from recurrax.dtypes import epsilon as epsilon
from recurrax.dtypes import floatx as floatx
from recurrax.dtypes import set_dtype_policy as set_dtype_policy
from recurrax.dtypes import set_epsilon as set_epsilon
from recurrax.dtypes import set_floatx as set_floatx


def backend() -> str:
    """`"jax"`."""
    return "jax"


def image_data_format() -> str:
    """`"channels_last"`."""
    return "channels_last"
