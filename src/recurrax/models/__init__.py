"""Models: layers that are trained together."""

from recurrax.layers import Input as Input
from recurrax.models.cloning import clone_model as clone_model
from recurrax.models.functional import Functional as Functional
from recurrax.models.model import Model as Model
from recurrax.models.sequential import Sequential as Sequential
from recurrax.saving import load_model as load_model
from recurrax.saving import model_from_json as model_from_json
from recurrax.saving import save_model as save_model

__all__ = [
    "Functional",
    "Input",
    "Model",
    "Sequential",
    "clone_model",
    "load_model",
    "model_from_json",
    "save_model",
]
