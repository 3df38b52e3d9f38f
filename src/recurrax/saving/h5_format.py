"""Weights as the HDF5 tree that Keras writes: `layers/lstm/cell/vars/0`."""

import io
from typing import Any

import ml_dtypes
import numpy as np

from recurrax.saving import hdf5
from recurrax.saving.limits import DEFAULT, Limits
from recurrax.saving.store import Store


def write(store: Store) -> bytes:
    """The file that holds `store`."""
    import h5py  # only to write a file: it takes a while to import

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for path in store.names | store.arrays:
            group = file.create_group(f"{path}/vars" if path else "vars")
            if store.names.get(path):
                group.attrs["name"] = store.names[path]
            for key, array in store.arrays.get(path, {}).items():
                dataset = group.create_dataset(key, data=array)
                if array.dtype == ml_dtypes.bfloat16:
                    dataset.attrs["dtype"] = "bfloat16"
    return buffer.getvalue()


def read(data: bytes | memoryview, limits: Limits = DEFAULT) -> Store:
    """What the file `data` holds; the arrays share its memory.

    Raises:
        LoadError: not such a file; see `hdf5.read_file`.
    """
    return from_file(hdf5.read_file(data, limits))


def from_file(file: hdf5.File) -> Store:
    """The arrays of the groups named `vars`."""
    store = Store()
    for path in file.groups:
        if path == "vars" or path.endswith("/vars"):
            owner = path.removesuffix("vars").removesuffix("/")
            store.arrays[owner] = {}
            name = file.attributes.get(path, {}).get("name")
            if isinstance(name, str):
                store.names[owner] = name
    for path, array in file.arrays.items():
        group, _, key = path.rpartition("/")
        owner = group.removesuffix("vars").removesuffix("/")
        if group == "vars" or group.endswith("/vars"):
            store.arrays[owner][key] = _plain(array)
        else:
            store.arrays.setdefault(group, {})[key] = _plain(array)
    return store


def _plain(array: np.ndarray) -> Any:
    """In the machine's own byte order."""
    if array.dtype.byteorder == ">":
        return array.astype(array.dtype.newbyteorder("="))
    return array
