"""Attention of one sequence to another, with few weights or none."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.layers import symbolic
from recurrax.layers.checks import rate
from recurrax.layers.layer import Layer
from recurrax.layers.shapes import is_shape
from recurrax.random import SeedGenerator
from recurrax.registry import serializable


def dropped(x: Array, share: float, seed: SeedGenerator) -> Array:
    """`x` with a share of its entries 0 and the rest scaled up."""
    kept = jax.random.bernoulli(seed.next(), 1 - share, x.shape)
    return jnp.where(kept, x * (1 / (1 - share) if share < 1 else 0.0), 0).astype(x.dtype)


def weights_of(scores: Array, mask: Any) -> Array:
    """Softmax of the scores over the last axis; nothing falls to where `mask` is False."""
    if mask is not None:
        far = 65504.0 if scores.dtype == jnp.float16 else 1e9
        scores = jnp.where(mask, scores, scores - far)
    return jax.nn.softmax(scores, axis=-1)


def causal_mask(queries: int, values: int) -> Array:
    """(1, queries, values): each query sees the values up to its own place."""
    return jnp.tril(jnp.ones((1, queries, values), bool))


@serializable("keras.layers")
class Attention(Layer):
    """Dot-product attention (Luong et al., arXiv:1508.04025): `softmax(q kᵀ) v`.

    Args:
        use_scale: whether the scores have a trained factor, the weight `scale` ().
        score_mode: `"dot"`, or `"concat"` for `sum(tanh(q + k))` times a trained factor, the weight
            `concat_score_weight` ().
        dropout: share of the weights of the values that is dropped in training.
        seed: of the dropout.

    Call arguments:
        inputs: `[query, value]` or `[query, value, key]`: query (batch, Tq, features), value and
            key (batch, Tv, features); the key is the value where it is not given.
        mask: `[query_mask, value_mask]`, boolean (batch, Tq) and (batch, Tv): masked values get no
            weight, masked queries the result 0.
        return_attention_scores: whether to return the weights too, (batch, Tq, Tv).
        use_causal_mask: whether each query sees only the values up to its own place.

    Returns:
        (batch, Tq, features).

    Raises:
        ValueError: an unknown `score_mode`, or inputs that are no list of two or three.
    """

    supports_masking = True

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                f"{type(self).__name__} expected score_mode 'dot' or 'concat', but got "
                f"{score_mode!r}."
            )
        self.use_scale, self.score_mode = use_scale, score_mode
        self.dropout = rate(dropout, "dropout", type(self).__name__)
        self.seed = seed
        if dropout > 0:
            self.seed_generator = SeedGenerator(seed)

    def _check(self, inputs: Any) -> None:
        if is_shape(inputs) or not isinstance(inputs, list | tuple) or len(inputs) not in (2, 3):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} expected [query, value] or "
                f"[query, value, key], but got {inputs!r}."
            )

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def scores(self, query: Array, key: Array) -> Array:
        """(batch, Tq, Tv)."""
        scale = 1 if self.scale is None else self.scale.value
        if self.concat_score_weight is None:
            return scale * jnp.matmul(query, jnp.swapaxes(key, -2, -1))
        pairs = jnp.tanh(scale * (query[..., :, None, :] + key[..., None, :, :]))
        return self.concat_score_weight.value * pairs.sum(axis=-1)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        self._check(inputs)
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) == 3 else value
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        scores = self.scores(query, key)
        seen = None if value_mask is None else value_mask.astype(bool)[:, None, :]
        if use_causal_mask:
            causal = causal_mask(*scores.shape[-2:])
            seen = causal if seen is None else seen & causal
        weights = weights_of(scores, seen)
        if training and self.dropout > 0:
            weights = dropped(weights, self.dropout, self.seed_generator)
        result = jnp.matmul(weights, value)
        if query_mask is not None:
            result = jnp.where(query_mask.astype(bool)[..., None], result, 0)
        return (result, weights) if return_attention_scores else result

    def compute_output_shape(self, input_shape: Any) -> Any:
        self._check(input_shape)
        return (*input_shape[0][:-1], input_shape[1][-1])

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("return_attention_scores"):
            return symbolic.trace_call(self, args, kwargs)
        return super().compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None if mask is None else mask[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "use_scale": self.use_scale,
            "score_mode": self.score_mode,
            "dropout": self.dropout,
            "seed": self.seed,
        }


@serializable("keras.layers")
class AdditiveAttention(Attention):
    """Additive attention (Bahdanau et al., arXiv:1409.0473): scores `sum(scale * tanh(q + k))`.

    Weight, with `use_scale`: `scale` (features,). For the rest see `Attention`.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        self.scale = None
        if self.use_scale:
            features = (input_shape[0][-1],)
            self.scale = self.add_weight(features, "glorot_uniform", name="scale")

    def scores(self, query: Array, key: Array) -> Array:
        scale = 1 if self.scale is None else self.scale.value
        return (scale * jnp.tanh(query[..., :, None, :] + key[..., None, :, :])).sum(axis=-1)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["score_mode"]
        return config
