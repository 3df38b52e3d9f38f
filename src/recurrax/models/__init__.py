"""Models: layers that are trained together."""

from recurrax.layers.input_layer import Input as Input
from recurrax.models.functional import Functional as Functional
from recurrax.models.model import Model as Model
from recurrax.models.sequential import Sequential as Sequential
