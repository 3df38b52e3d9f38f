"""Saving: models that travel, and files that cannot bite."""

from recurrax import registry
from recurrax.registry import CustomObjectScope as CustomObjectScope
from recurrax.registry import custom_object_scope as custom_object_scope
from recurrax.registry import get_custom_objects as get_custom_objects
from recurrax.registry import get_registered_name as get_registered_name
from recurrax.registry import get_registered_object as get_registered_object
from recurrax.registry import register_keras_serializable as register_keras_serializable
from recurrax.saving.errors import LoadError as LoadError
from recurrax.saving.from_config import model_from_json as model_from_json
from recurrax.saving.from_config import to_json as to_json
from recurrax.saving.limits import Limits as Limits
from recurrax.saving.model_file import load_model as load_model
from recurrax.saving.model_file import save_model as save_model
from recurrax.saving.weights_file import load_weights as load_weights
from recurrax.saving.weights_file import save_weights as save_weights

deserialize_keras_object = registry.deserialize
serialize_keras_object = registry.serialize
