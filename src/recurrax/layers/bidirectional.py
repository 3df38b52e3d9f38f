"""`Bidirectional`: a recurrent layer run in both directions."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.layers import symbolic
from recurrax.layers.cloning import twin
from recurrax.layers.floating import cast_floating
from recurrax.layers.graph import SymbolicTensor
from recurrax.layers.layer import Layer
from recurrax.layers.masked import one_mask
from recurrax.layers.signature import signature_of
from recurrax.registry import serializable

MERGES: dict[Any, Any] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "ave": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
    None: None,
}


@serializable("keras.layers")
class Bidirectional(Layer):
    """Runs a recurrent layer forwards and a twin of it backwards (Schuster & Paliwal, 1997).

    With a mask, each sample's states and outputs are those that it has alone, unpadded.

    Args:
        layer: the recurrent layer; a fresh one with its settings runs forwards.
        merge_mode: how the outputs of the two are joined: `"concat"` (of the features), `"sum"`,
            `"mul"`, `"ave"`, or None for both, one after the other.
        weights: initial weights, those of the forward layer first.
        backward_layer: the layer that runs backwards, in place of a twin; it has
            `go_backwards=True`.

    Call arguments:
        sequences: (batch, timesteps, ...).
        initial_state: the states of the forward layer, then those of the backward layer.
        mask: boolean (batch, timesteps); where False, the step is skipped.
        training: whether dropout is on.

    Returns:
        The merged outputs (backward ones in the order of `sequences`), or both with
        `merge_mode=None`; with `return_state` followed by the forward, then the backward states.

    Raises:
        ValueError: no recurrent layer, an unknown `merge_mode`, two layers that run the same way
            or differ in `stateful`, `return_sequences` or `return_state`, an odd number of states.
    """

    supports_masking = True

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for each in (layer, layer if backward_layer is None else backward_layer):
            if not isinstance(each, Layer) or not hasattr(each, "go_backwards"):
                raise ValueError(
                    f"Bidirectional expected a recurrent layer, but got {each!r}: pass "
                    "layers.LSTM(8), say."
                )
        if merge_mode not in MERGES:
            raise ValueError(
                f"Bidirectional expected merge_mode to be one of {list(MERGES)}, but got "
                f"{merge_mode!r}."
            )
        self.merge_mode = merge_mode
        self.forward_layer = twin(layer, name=_named("forward", layer))
        self.backward_layer = backward_layer or twin(
            layer, name=_named("backward", layer), go_backwards=not layer.go_backwards
        )
        self._check_pair()
        for each in (self.forward_layer, self.backward_layer):
            if hasattr(each, "zero_output_for_mask"):
                each.zero_output_for_mask = layer.return_sequences
        self._initial_weights = weights
        self.stateful = layer.stateful
        self.return_sequences = layer.return_sequences
        self.return_state = layer.return_state
        self.input_spec = layer.input_spec

    def _check_pair(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(
                "The two layers of a Bidirectional run in different directions, but both have "
                f"go_backwards={forward.go_backwards}: make backward_layer with "
                f"go_backwards={not forward.go_backwards}."
            )
        for name in ("stateful", "return_sequences", "return_state"):
            if getattr(forward, name) != getattr(backward, name):
                raise ValueError(
                    f"The two layers of a Bidirectional agree in {name}, but the forward layer has "
                    f"{getattr(forward, name)} and the backward layer {getattr(backward, name)}."
                )

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        for each in (self.forward_layer, self.backward_layer):
            if not each.built:
                each.build(sequences_shape)
        if self._initial_weights is not None:
            half = len(self._initial_weights) // 2
            self.forward_layer.set_weights(self._initial_weights[:half])
            self.backward_layer.set_weights(self._initial_weights[half:])

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        forward_state, backward_state = self._halves(initial_state)
        outputs, states = [], []
        for layer, state in (
            (self.forward_layer, forward_state),
            (self.backward_layer, backward_state),
        ):
            result = layer(sequences, initial_state=state, mask=one_mask(mask), training=training)
            if self.return_state:
                result, *own = result
                states += own
            result = cast_floating(result, self.compute_dtype)
            if self.return_sequences and layer is self.backward_layer:
                result = jax.tree.map(lambda y: jnp.flip(y, axis=1), result)
            outputs.append(result)
        merge = MERGES[self.merge_mode]
        merged = tuple(outputs) if merge is None else (jax.tree.map(merge, *outputs),)
        if self.return_state:
            return (*merged, *states)
        return merged if merge is None else merged[0]

    def _halves(self, initial_state: Any) -> tuple[Any, Any]:
        if initial_state is None:
            return None, None
        states = list(initial_state)
        if len(states) % 2:
            raise ValueError(
                f"Bidirectional {self.name!r} expected initial_state to hold the states of the "
                f"forward layer, then those of the backward layer, but got {len(states)} arrays."
            )
        half = len(states) // 2
        return states[:half], states[half:]

    @property
    def states(self) -> list[Any] | None:
        """The states of a stateful layer, forward ones first; None before it is built."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return None if forward is None or backward is None else [*forward, *backward]

    @states.setter
    def states(self, values: Any) -> None:
        self.reset_state(values)

    def reset_state(self, states: Any = None) -> None:
        """Set the states of both layers to `states`, or back to their start."""
        for layer, own in zip(
            (self.forward_layer, self.backward_layer), self._halves(states), strict=True
        ):
            layer.reset_state() if own is None else layer.reset_state(own)

    reset_states = reset_state

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = one_mask(mask) if self.return_sequences else None
        if mask is not None and self.forward_layer.go_backwards:
            mask = jnp.flip(mask, axis=1)  # outputs stand in the order of the forward layer's steps
        masks = [mask] * getattr(self.forward_layer, "output_leaves", 1)
        masks *= 2 if self.merge_mode is None else 1
        if self.return_state:
            forward, backward = self.forward_layer, self.backward_layer
            return masks + [None] * (len(forward.state_size) + len(backward.state_size))
        return masks if len(masks) > 1 else mask

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        sequences = symbolic.shapes_to_symbols(self, sequences_shape)
        return symbolic.symbols_to_shapes(self._symbolic_outputs(sequences))

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if type(self).call is not Bidirectional.call or symbolic.has_own_shapes(self):
            return super().compute_output_spec(*args, **kwargs)
        arguments = signature_of(Bidirectional).signature.bind(*args, **kwargs).arguments
        return self._symbolic_outputs(arguments["sequences"])

    def _symbolic_outputs(self, sequences: Any) -> Any:
        outputs, states = [], []
        for layer in (self.forward_layer, self.backward_layer):
            result = layer.compute_output_spec(sequences)
            if self.return_state:
                result, *own = result
                states += own
            outputs.append(cast_floating(result, self.compute_dtype))

        def joined(forward: Any, backward: Any) -> SymbolicTensor:
            *first, last = forward.shape
            return SymbolicTensor((*first, last + backward.shape[-1]), forward.dtype)

        if self.merge_mode == "concat":
            outputs = [jax.tree.map(joined, *outputs)]
        elif self.merge_mode is not None:
            outputs = outputs[:1]
        if self.return_state:
            return (*outputs, *states)
        return tuple(outputs) if self.merge_mode is None else outputs[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "merge_mode": self.merge_mode,
            "layer": self.forward_layer,
            "backward_layer": self.backward_layer,
        }


def _named(direction: str, layer: Layer) -> str:
    return f"{direction}_{layer.name.removeprefix(f'{direction}_')}"
