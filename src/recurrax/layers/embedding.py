"""`Embedding`: integers to vectors."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from recurrax import constraints, initializers, regularizers
from recurrax.layers import looked_up
from recurrax.layers.checks import positive_int
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class Embedding(Layer):
    """A table of vectors, looked up by integer.

    Weights: `embeddings` (input_dim, output_dim).

    Args:
        input_dim: number of different integers, from 0 to `input_dim - 1`.
        output_dim: features of a vector.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: of the table.
        mask_zero: whether 0 stands for padding, which layers after this one skip.
        weights: initial table, an array (input_dim, output_dim) or a list of it.

    Raises:
        ValueError: a size not positive; on arrays from the host, integers outside the table.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ) -> None:
        length = kwargs.pop("input_length", None)
        super().__init__(**kwargs)
        self.input_dim = positive_int(input_dim, "input_dim", "Embedding")
        self.output_dim = positive_int(output_dim, "output_dim", "Embedding")
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        # The ids' shape is known before any data: (batch, timesteps).
        self.known_input_shape = (None, length)
        self.autocast = False
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, list) else [weights])

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
            name="embeddings",
        )

    def check_values(self, inputs: Any) -> None:
        """Raise ValueError for integers outside the table, for which JAX gives NaN silently."""
        ids = np.asarray(inputs)
        if ids.size == 1:  # a stream's: two reductions would take a good part of its step
            low = high = ids.item()
        else:
            low, high = ids.min(initial=0), ids.max(initial=0)
        if low < 0 or high >= self.input_dim or (ids.dtype.kind == "f" and (ids % 1).any()):
            raise self._outside(ids)

    def _outside(self, ids: np.ndarray) -> ValueError:
        low, high = ids.min(), ids.max()
        head = (
            f"Embedding {self.name!r} has input_dim={self.input_dim}, so its inputs must be "
            f"integers from 0 to {self.input_dim - 1}, but got "
        )
        if low >= 0 and high >= self.input_dim:
            return ValueError(
                f"{head}{high}: make the layer with input_dim={int(high) + 1}, or mend the data."
            )
        return ValueError(f"{head}{low if low < 0 else ids[ids % 1 != 0][0]}: mend the data.")

    def call(self, inputs: Num[Array, "*batch"]) -> Float[Array, "*batch features"]:
        ids = inputs if jnp.issubdtype(inputs.dtype, jnp.integer) else inputs.astype(jnp.int32)
        table = self.embeddings.value.astype(self.compute_dtype)
        vectors = jnp.take(table, ids, axis=0, mode="clip")
        looked_up.note(vectors, table, ids)
        return vectors

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return jnp.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": self.embeddings_initializer,
            "embeddings_regularizer": self.embeddings_regularizer,
            "activity_regularizer": self.activity_regularizer,
            "embeddings_constraint": self.embeddings_constraint,
            "mask_zero": self.mask_zero,
        }
