"""`keras.preprocessing.sequence`."""

from recurrax.utils.sequences import pad_sequences as pad_sequences
