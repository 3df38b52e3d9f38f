"""Where `keras.preprocessing` keeps what prepares sequences; the same as in `recurrax.utils`."""

from recurrax.preprocessing import sequence as sequence
from recurrax.utils.timeseries import (
    timeseries_dataset_from_array as timeseries_dataset_from_array,
)
