"""`TimeDistributed`: a layer applied to every step."""

from typing import Any

import jax
import jax.numpy as jnp

from recurrax.layers.batch_normalization import BatchNormalization
from recurrax.layers.floating import cast_floating
from recurrax.layers.global_pooling import OverTime
from recurrax.layers.masked import check_mask, one_mask
from recurrax.layers.shapes import leaf_shapes, map_shapes
from recurrax.layers.signature import signature_of
from recurrax.layers.wrapper import Wrapper
from recurrax.loop import scan
from recurrax.registry import serializable
from recurrax.variable import StatelessScope


@serializable("keras.layers")
class TimeDistributed(Wrapper):
    """Applies a layer to every step of a sequence, with the same weights.

    Steps are taken together, as one large batch, unless the layer's result for one sample depends
    on the others (batch normalization, a layer of your own) or it has a state.

    Args:
        layer: the layer, fed with (batch, ...).

    Call arguments:
        inputs: (batch, timesteps, ...).
        mask: (batch, timesteps), or with axes for what a step is made of, such as (sentences,
            words): handed to the layer step by step if it takes a mask. Where a layer of ours
            expects one over the steps within, a masked step is masked as a whole.

    Returns:
        (batch, timesteps, ...).

    Raises:
        ValueError: fewer than 3 axes, or a mask of another shape.
    """

    supports_masking = True

    def _step_shape(self, shape: Any) -> tuple[int | None, ...]:
        if len(shape) < 3:
            raise ValueError(
                f"Layer {self.name!r} expected an input of at least 3 axes (batch, timesteps, "
                f"...), but got shape {tuple(shape)}: add the missing axis, as with x[..., None]."
            )
        return (shape[0], *shape[2:])

    def build(self, input_shape: Any = None) -> None:
        super().build(map_shapes(self._step_shape, input_shape))

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        batch, steps = jax.tree.leaves(inputs)[0].shape[:2]
        mask = one_mask(mask)
        if mask is not None:
            mask = self._checked_mask(mask, inputs)
        takes = signature_of(type(self.layer))
        more: dict[str, Any] = {"training": training} if takes.takes_training else {}
        if not takes.takes_mask:
            mask = None
        if not self._is_per_sample():
            return self._step_by_step(inputs, mask, more)

        if mask is not None:
            more["mask"] = _join(mask)
        outputs = cast_floating(self.layer(jax.tree.map(_join, inputs), **more), self.compute_dtype)
        return jax.tree.map(lambda y: y.reshape(batch, steps, *y.shape[1:]), outputs)

    def _checked_mask(self, mask: Any, inputs: Any) -> Any:
        """The mask, with the axes that a layer of ours expects one to have."""
        x = jax.tree.leaves(inputs)[0]
        check_mask(jax.ShapeDtypeStruct(mask.shape[:2], bool), x.shape[:2], self.name)
        if x is not inputs or x.ndim == 3 or not _is_ours(self.layer):
            return mask
        within = x.shape[2 : -1 if isinstance(self.layer, BatchNormalization) else 3]
        if isinstance(self.layer, OverTime):
            within = (x.shape[1 + self.layer.axes[0]],)
        if mask.ndim > 2 and mask.shape[2:] != within[: mask.ndim - 2]:
            raise ValueError(
                f"Layer {self.name!r} expected a mask of shape {x.shape[:2]}, or with the steps "
                f"within, {(*x.shape[:2], *within)}, but got shape {mask.shape}."
            )
        rest = within[mask.ndim - 2 :]
        mask = mask.reshape(mask.shape + (1,) * len(rest))
        return jnp.broadcast_to(mask, (*x.shape[:2], *within)) if rest else mask

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = one_mask(mask)
        if mask is None or mask.ndim == 2:
            return mask
        within = None
        if self.layer.hands_masks_on:
            within = one_mask(self.layer.compute_mask(jax.tree.map(_join, inputs), _join(mask)))
        if within is None:  # a step is real where anything in it is
            return jnp.any(mask, axis=tuple(range(2, mask.ndim)))
        return within.reshape(*mask.shape[:2], *within.shape[1:])

    def _is_per_sample(self) -> bool:
        """Whether every sample's result depends on that sample alone."""
        layers = self.layer.flatten_layers()
        return all(
            _is_ours(x)
            and not getattr(x, "mixes_batch", False)
            and not getattr(x, "stateful", False)
            for x in layers
        )

    def _step_by_step(self, inputs: Any, mask: Any, more: dict[str, Any]) -> Any:
        changing = self.layer.non_trainable_variables

        def step(values: list[Any], x: Any) -> Any:
            x_t, mask_t = x
            masked = {} if mask_t is None else {"mask": mask_t}
            with StatelessScope(zip(changing, values, strict=True)) as scope:
                y = cast_floating(self.layer(x_t, **more, **masked), self.compute_dtype)
                losses = scope.losses
                values = [scope.get_current_value(v) for v in changing]
            return values, (y, losses)

        def time_first(x: Any) -> Any:
            return jnp.swapaxes(x, 0, 1)

        values, (outputs, losses) = scan(
            step, [v.value for v in changing], jax.tree.map(time_first, (inputs, mask))
        )
        for variable, value in zip(changing, values, strict=True):
            variable.assign(value)
        for loss in losses:
            self.add_loss(loss.sum())
        return jax.tree.map(time_first, outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, steps = leaf_shapes(input_shape)[0][:2]
        shape = self.layer.compute_output_shape(map_shapes(self._step_shape, input_shape))
        return map_shapes(lambda s: (batch, steps, *s[1:]), shape)


def _join(x: Any) -> Any:
    """(batch, timesteps, ...) as (batch * timesteps, ...)."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _is_ours(layer: Any) -> bool:
    return type(layer).__module__.startswith("recurrax.")
