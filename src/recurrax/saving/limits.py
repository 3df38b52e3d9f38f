"""What a file may ask for, at most."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The most that a file may ask for before `LoadError` is raised, and nothing is allocated.

    Each can be raised by the caller who trusts a file, and by nothing that stands in a file.

    Args:
        json_bytes: size of a configuration.
        json_values: values (numbers, strings, lists, dictionaries) in a configuration.
        json_depth: how deep lists and dictionaries of a configuration stand inside each other.
        objects: layers, initializers, policies and so on that a configuration makes.
        members: members of an archive.
        expansion: how many times larger than in the archive an unpacked member may be.
        unpacked_bytes: size of an unpacked member.
        h5_objects: groups, datasets and attributes of an HDF5 file.
        h5_depth: how deep its groups stand inside each other.
        weights_bytes: size of the weights that a configuration alone may make.
        spare_bytes: by how much the weights a configuration makes may exceed
            `weights_per_byte` times the size of the file that is to fill them.
        weights_per_byte: see `spare_bytes`; more than 1, since optimizers keep several values
            for each weight.
    """

    json_bytes: int = 16 * 2**20
    json_values: int = 2_000_000
    json_depth: int = 200
    objects: int = 50_000
    members: int = 10_000
    expansion: int = 200
    unpacked_bytes: int = 64 * 2**30
    h5_objects: int = 500_000
    h5_depth: int = 100
    weights_bytes: int = 64 * 2**30
    spare_bytes: int = 16 * 2**20
    weights_per_byte: int = 5


DEFAULT = Limits()
