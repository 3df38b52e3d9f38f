"""`keras.preprocessing.sequence`."""

from recurrax.utils import pad_sequences as pad_sequences
