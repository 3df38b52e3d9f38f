"""Helpers that prepare data, fix seeds, name classes and draw models."""

from recurrax.registry import CustomObjectScope as CustomObjectScope
from recurrax.registry import custom_object_scope as custom_object_scope
from recurrax.registry import deserialize as deserialize_keras_object
from recurrax.registry import get_custom_objects as get_custom_objects
from recurrax.registry import get_registered_name as get_registered_name
from recurrax.registry import get_registered_object as get_registered_object
from recurrax.registry import register_keras_serializable as register_keras_serializable
from recurrax.registry import serialize as serialize_keras_object
from recurrax.utils.batches import pack_x_y_sample_weight as pack_x_y_sample_weight
from recurrax.utils.batches import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from recurrax.utils.numerical import normalize as normalize
from recurrax.utils.numerical import to_categorical as to_categorical
from recurrax.utils.plot_model import model_to_dot as model_to_dot
from recurrax.utils.plot_model import plot_model as plot_model
from recurrax.utils.py_dataset import PyDataset as PyDataset
from recurrax.utils.py_dataset import PyDataset as Sequence
from recurrax.utils.seeds import set_random_seed as set_random_seed
from recurrax.utils.sequences import pad_sequences as pad_sequences
from recurrax.utils.session import clear_session as clear_session
from recurrax.utils.split_dataset import split_dataset as split_dataset
from recurrax.utils.timeseries import (
    timeseries_dataset_from_array as timeseries_dataset_from_array,
)

__all__ = [
    "CustomObjectScope",
    "PyDataset",
    "Sequence",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "model_to_dot",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "serialize_keras_object",
    "set_random_seed",
    "split_dataset",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]
