"""`clone_model`: another model of the same architecture."""

from typing import Any

from recurrax.layers import cloning


def clone_model(model: Any) -> Any:
    """A model of the same architecture, with fresh weights and not compiled.

    Args:
        model: the model.

    Raises:
        ValueError: the model holds something that has no configuration.
    """
    twin = cloning.twin(model)
    if model.built and not twin.built:
        twin.build_from_config(model.get_build_config() or {})
    return twin
