"""`MultiHeadAttention`: several attentions side by side."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax import constraints, initializers, regularizers
from recurrax.layers.attention import causal_mask, dropped, weights_of
from recurrax.layers.checks import positive_int, rate
from recurrax.layers.einsum_dense import EinsumDense
from recurrax.layers.layer import Layer
from recurrax.random import SeedGenerator
from recurrax.registry import serializable


@serializable("keras.layers")
class MultiHeadAttention(Layer):
    """Dot-product attention by several heads, each with projections of its own (arXiv:1706.03762).

    Weights: kernel and bias of `query` and `key` (features, heads, key_dim), of `value`
    (features, heads, value_dim), and of `attention_output` (heads, value_dim, output features).

    Args:
        num_heads: number of heads, positive.
        key_dim: features of query and key in each head.
        value_dim: features of the value in each head; `key_dim` where None.
        dropout: share of the weights of the values that is dropped in training.
        use_bias: whether the projections have biases.
        output_shape: features of the output; those of the query where None.
        attention_axes: the axis of time, 1; others are not offered.
        kernel_initializer, bias_initializer: initial weights of all projections.
        kernel_regularizer, bias_regularizer: penalties on them.
        activity_regularizer: penalty on the output.
        kernel_constraint, bias_constraint: applied after each update.
        seed: of the dropout.

    Call arguments:
        query: (batch, Tq, features).
        value: (batch, Tv, features).
        key: (batch, Tv, features); the value where None.
        query_mask, value_mask, key_mask: boolean (batch, Tq), (batch, Tv), (batch, Tv).
        attention_mask: boolean (batch, Tq, Tv): which query sees which value.
        return_attention_scores: whether to return the weights too, (batch, heads, Tq, Tv).
        use_causal_mask: whether each query sees only the values up to its own place.

    Returns:
        (batch, Tq, output features).

    Raises:
        ValueError: a size not positive, or an argument that is not offered here.
    """

    supports_masking = True

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("flash_attention", None)  # another way to compute the same
        for name in ("sliding_window", "use_gate"):
            if kwargs.pop(name, None):
                raise ValueError(f"MultiHeadAttention does not offer {name}: leave it out.")
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.num_heads = positive_int(num_heads, "num_heads", "MultiHeadAttention")
        self.key_dim = positive_int(key_dim, "key_dim", "MultiHeadAttention")
        self.value_dim = positive_int(value_dim or key_dim, "value_dim", "MultiHeadAttention")
        self.dropout = rate(dropout, "dropout", "MultiHeadAttention")
        self.use_bias = use_bias
        if isinstance(output_shape, int):
            output_shape = (output_shape,)
        self.output_features = None if output_shape is None else tuple(output_shape)
        if attention_axes not in (None, 1, (1,), [1]):
            raise ValueError(
                f"MultiHeadAttention attends along axis 1, but got attention_axes="
                f"{attention_axes}: move the axis there with layers.Permute."
            )
        self.attention_axes = (attention_axes,) if attention_axes == 1 else attention_axes
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.seed = seed
        if dropout > 0:
            self.seed_generator = SeedGenerator(seed)

    def _projection(self, equation: str, sizes: Sequence[Any], axes: str, name: str) -> EinsumDense:
        return EinsumDense(
            equation,
            sizes,
            bias_axes=axes if self.use_bias else None,
            kernel_initializer=_fresh(self.kernel_initializer),
            bias_initializer=_fresh(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        heads, outputs = self.num_heads, self.output_features or (query_shape[-1],)
        into = "abc,cde->abde"
        self.query_dense = self._projection(into, (None, heads, self.key_dim), "de", "query")
        self.key_dense = self._projection(into, (None, heads, self.key_dim), "de", "key")
        self.value_dense = self._projection(into, (None, heads, self.value_dim), "de", "value")
        letters = "efgh"[: len(outputs)]
        self.output_dense = self._projection(
            f"abcd,cd{letters}->ab{letters}", (None, *outputs), letters, "attention_output"
        )
        self.query_dense.build(query_shape)
        self.key_dense.build(key_shape or value_shape)
        self.value_dense.build(value_shape)
        self.output_dense.build((*query_shape[:-1], heads, self.value_dim))

    def call(
        self,
        query: Array,
        value: Array,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        key = value if key is None else key
        seen = None
        for mask in (
            None if query_mask is None else query_mask[:, :, None],
            None if value_mask is None else value_mask[:, None, :],
            None if key_mask is None else key_mask[:, None, :],
            causal_mask(query.shape[1], value.shape[1]) if use_causal_mask else None,
            attention_mask,
        ):
            if mask is not None:
                mask = jnp.asarray(mask, bool)
                seen = mask if seen is None else seen & mask
        if seen is not None and seen.ndim == 3:
            seen = seen[:, None]  # the same for all heads
        q = self.query_dense(query) * (1 / math.sqrt(self.key_dim))
        k, v = self.key_dense(key), self.value_dense(value)
        weights = weights_of(jnp.einsum("bqhd,bkhd->bhqk", q, k), seen)
        used = weights
        if training and self.dropout > 0:
            used = dropped(weights, self.dropout, self.seed_generator)
        result = self.output_dense(jnp.einsum("bhqk,bkhd->bqhd", used, v))
        return (result, weights) if return_attention_scores else result

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": self.output_features,
            "attention_axes": self.attention_axes,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "activity_regularizer": self.activity_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
            "seed": self.seed,
        }


def _fresh(initializer: Any) -> Any:
    """Another one of the same settings, so that each projection begins with its own values."""
    return initializer.clone() if hasattr(initializer, "clone") else initializer
