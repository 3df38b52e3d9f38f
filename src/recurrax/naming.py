"""Names for layers that were given none: `lstm`, `lstm_1`, `lstm_2`."""

import collections
import re

_counts: collections.Counter[str] = collections.Counter()


def to_snake_case(name: str) -> str:
    """`SimpleRNNCell` as `simple_rnn_cell`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(prefix: str) -> str:
    """`prefix`, with a number from the second on."""
    count = _counts[prefix]
    _counts[prefix] += 1
    return prefix if count == 0 else f"{prefix}_{count}"


def reset_names() -> None:
    """Begin counting again (`utils.clear_session`)."""
    _counts.clear()
