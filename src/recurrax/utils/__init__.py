"""Helpers that prepare data and fix seeds."""

from recurrax.utils.numerical import normalize as normalize
from recurrax.utils.numerical import to_categorical as to_categorical
from recurrax.utils.py_dataset import PyDataset as PyDataset
from recurrax.utils.seeds import set_random_seed as set_random_seed
from recurrax.utils.sequences import pad_sequences as pad_sequences
from recurrax.utils.timeseries import (
    timeseries_dataset_from_array as timeseries_dataset_from_array,
)
