"""JSON, with bounds: no duplicate keys, no NaN, no depth or size beyond the limits."""

import json
import math
from typing import Any

from recurrax.saving.errors import LoadError
from recurrax.saving.limits import DEFAULT, Limits


def parse(data: bytes | str, what: str, limits: Limits = DEFAULT) -> Any:
    """The value that `data` spells.

    Args:
        data: the text.
        what: what it is, for the error.
        limits: what it may ask for.

    Raises:
        LoadError: no JSON, a key twice, a number that is not finite, or more than `limits`.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    if len(raw) > limits.json_bytes:
        raise LoadError(
            f"{what} has {len(raw):,} bytes, more than the limit json_bytes={limits.json_bytes:,}."
        )
    # Counted before parsing: a list of empty lists needs thirty times the memory of its text.
    values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if values > limits.json_values:
        raise LoadError(
            f"{what} has about {values:,} values, more than the limit "
            f"json_values={limits.json_values:,}."
        )
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{what} is not valid JSON: {error}.") from error
    _check_depth(value, what, limits.json_depth)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that a configuration may hold")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is not finite")
    return value


def _check_depth(value: Any, what: str, limit: int) -> None:
    level, depth = [[value]], 0
    while level := [item for each in level for item in _containers(each)]:
        depth += 1
        if depth > limit:
            raise LoadError(f"{what} is nested deeper than the limit json_depth={limit}.")


def _containers(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict | list)]
