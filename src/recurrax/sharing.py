"""One object in several places of a configuration: written with a number, made once."""

import collections
from collections.abc import Mapping
from typing import Any


class Writing:
    """Which objects have been written: each has a number, by which it is found again.

    Args:
        compiled: whether to write what models were compiled with.
    """

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled
        self.numbers: dict[int, tuple[Any, int]] = {}
        self.times: collections.Counter[int] = collections.Counter()

    def mark(self, thing: Any, record: dict[str, Any]) -> dict[str, Any]:
        """`record` with the number of `thing`."""
        _, number = self.numbers.setdefault(id(thing), (thing, len(self.numbers)))
        self.times[number] += 1
        return {**record, "shared_object_id": number}

    def without_single(self, data: Any) -> Any:
        """`data` without the numbers of objects that stand in one place only."""
        if isinstance(data, Mapping):
            return {
                key: self.without_single(value)
                for key, value in data.items()
                if key != "shared_object_id" or self.times[value] > 1
            }
        if isinstance(data, list | tuple):
            return [self.without_single(item) for item in data]
        return data


class Reading:
    """What a file has made: shared objects by their number, and how many objects in all.

    Args:
        objects: how many it may make.
    """

    def __init__(self, objects: int) -> None:
        self.left = objects
        self.limit = objects
        self.shared: dict[int, Any] = {}

    def count(self) -> None:
        """Count one more.

        Raises:
            ValueError: they are more than the limit.
        """
        self.left -= 1
        if self.left < 0:
            raise ValueError(
                f"The configuration makes more objects than the limit objects={self.limit:,}."
            )
