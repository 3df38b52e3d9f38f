"""What recurrent code uses of `keras.backend`."""

from recurrax.config import backend as backend
from recurrax.config import epsilon as epsilon
from recurrax.config import floatx as floatx
from recurrax.config import image_data_format as image_data_format
from recurrax.config import set_epsilon as set_epsilon
from recurrax.config import set_floatx as set_floatx
from recurrax.ops import convert_to_numpy as convert_to_numpy
from recurrax.ops import convert_to_tensor as convert_to_tensor
from recurrax.ops import is_tensor as is_tensor
from recurrax.utils import clear_session as clear_session
