"""What a program is made for: a platform, and how many devices its arrays are divided over."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
from jax.core import Tracer


@dataclasses.dataclass(frozen=True)
class Machine:
    """The `platform` ("cpu", "cuda", ...), None where a program is for several, and how many
    `devices` XLA divides its arrays over as it sees fit.

    `in_part` tells that it divides them over some axes of a mesh only: over others the program does
    (`jax.shard_map` with `axis_names`).
    """

    platform: str | None
    devices: int = 1
    in_part: bool = False

    @property
    def is_divided(self) -> bool:
        return self.devices > 1


def default() -> Machine:
    """What JAX makes programs for whose arrays are bound to no device."""
    device = getattr(jax.config, "jax_default_device")  # noqa: B009
    if device is None:
        return Machine(jax.default_backend())
    return Machine(device if isinstance(device, str) else device.platform)


def of_arrays(arrays: Iterable[Any]) -> Machine:
    """What JAX makes a program for that reads these arrays (or their types)."""
    for a in arrays:
        if isinstance(a, jax.Array) and not isinstance(a, Tracer) and a.committed:
            devices = a.sharding.device_set
            return Machine(next(iter(devices)).platform, len(devices))
    return default()
