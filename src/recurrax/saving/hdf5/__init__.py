"""HDF5 files, as far as weights need them."""

from recurrax.saving.hdf5.reader import File as File
from recurrax.saving.hdf5.reader import read_file as read_file
