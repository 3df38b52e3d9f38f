"""From what people pass as data to batches."""

from recurrax.training.data.arrays import length_of as length_of
from recurrax.training.data.arrays import to_arrays as to_arrays
from recurrax.training.data.choose import choose_source as choose_source
from recurrax.training.data.choose import split_off as split_off
from recurrax.training.data.source import ArraySource as ArraySource
from recurrax.training.data.source import Rounds as Rounds
from recurrax.training.data.source import Source as Source
