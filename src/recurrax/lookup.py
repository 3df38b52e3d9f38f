"""From what a caller may give (a name, a configuration, a class, an object) to the object."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from recurrax.naming import to_snake_case
from recurrax.registry import deserialize, get_registered_object, is_record, unknown_name


def table_of(things: Iterable[Any]) -> dict[str, Any]:
    """Each class under its own name and in snake case, each function under its own name."""
    table = {}
    for thing in things:
        table[thing.__name__] = thing
        if isinstance(thing, type):
            table.setdefault(to_snake_case(thing.__name__), thing)
    return table


def find(
    kind: str,
    identifier: Any,
    table: Mapping[str, Any],
    custom_objects: Mapping[str, Any] | None = None,
    accept: Callable[[Any], bool] = callable,
) -> Any:
    """The object that `identifier` stands for; None stays None.

    Args:
        kind: what it is, for the error: "regularizer", "loss", ...
        identifier: a name in `table` or a registered one, a serialized configuration, a class
            (made without arguments), or the object itself.
        accept: whether an object is one of this kind.

    Raises:
        ValueError: an unknown name (the nearest is named).
        TypeError: nothing of the above.
    """
    if isinstance(identifier, str):
        found = get_registered_object(identifier, custom_objects)
        if found is None:
            found = table.get(identifier)
        if found is None:
            raise unknown_name(kind, identifier, table)
        identifier = found
    elif is_record(identifier):
        # The files of Keras write a built-in function as its bare name in a record.
        name = identifier["config"]
        if identifier["class_name"] == "function" and name in table:
            return table[name]
        identifier = deserialize(identifier, custom_objects)
    if isinstance(identifier, type):
        return identifier()
    if identifier is None or accept(identifier):
        return identifier
    raise TypeError(
        f"The {kind} must be a name, a configuration or an object, but {identifier!r} of type "
        f"{type(identifier).__name__} was given. Known names: {', '.join(sorted(set(table)))}."
    )
