"""`StackedRNNCells`: cells on top of one another, as one cell."""

from collections.abc import Sequence
from typing import Any

from recurrax.layers import cells as protocol
from recurrax.layers import symbolic
from recurrax.layers.layer import Layer
from recurrax.layers.record import recorded_under
from recurrax.layers.shapes import shapes_of
from recurrax.registry import serializable


@serializable("keras.layers")
class StackedRNNCells(Layer):
    """Cells on top of one another: each is fed with the output of the one below, at every step.

    States: a list with the states of each cell. Output: that of the last cell.

    Args:
        cells: the cells, from the bottom to the top.

    Raises:
        ValueError: no cells, or something that is no cell.
    """

    stacks_cells = True

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not cells:
            raise ValueError("StackedRNNCells expected at least one cell, but got none.")
        for cell in cells:
            protocol.check_cell(cell)
        self.cells = list(cells)

    @property
    def state_size(self) -> list[Any]:
        """The state size of each cell."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        """The output size of the last cell."""
        return protocol.declared_output_size(self.cells[-1])

    def build(self, input_shape: Any, constants_shape: Any = None) -> None:
        inputs, constants = (
            symbolic.shapes_to_symbols(self, shape) for shape in (input_shape, constants_shape)
        )
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                protocol.build_cell(cell, shapes_of(inputs), constants_shape)
            if cell is not self.cells[-1]:
                inputs = protocol.output_of(cell, inputs, constants)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """The initial states of each cell."""
        states = []
        for cell in self.cells:
            own = protocol.initial_state(cell, batch_size)
            states.append(own if isinstance(cell.state_size, list | tuple) else own[0])
        return states

    def call(
        self, inputs: Any, states: Any, training: bool = False, constants: Any = None
    ) -> tuple[Any, list[Any]]:
        new_states = []
        for cell, own in zip(self.cells, states, strict=True):
            several = isinstance(own, list | tuple)
            given = list(own) if several else [own]
            with recorded_under(protocol.cell_name(cell)):
                inputs, new = protocol.call_cell(cell, inputs, given, training, constants)
            if isinstance(new, list | tuple) and not several:
                (new,) = new
            new_states.append(new)
        return inputs, new_states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cells": self.cells}
