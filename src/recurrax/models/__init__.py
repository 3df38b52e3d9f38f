"""Models: layers that are trained together."""

from recurrax.models.model import Model as Model
from recurrax.models.sequential import Sequential as Sequential
