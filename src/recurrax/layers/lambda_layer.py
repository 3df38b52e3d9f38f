"""`Lambda`: any function as a layer."""

from collections.abc import Callable
from typing import Any

from recurrax.layers import symbolic
from recurrax.layers.layer import Layer
from recurrax.layers.shapes import is_shape
from recurrax.registry import serializable


@serializable("keras.layers")
class Lambda(Layer):
    """Applies a function. It cannot be saved: loading a file runs nobody's code.

    Args:
        function: takes the input, and `mask` or `training` if it has arguments of these names.
        output_shape: shape of an output without the batch, or a function of the input's shape;
            found by tracing where None.
        mask: mask of the output, or a function `(inputs, mask)` that returns it.
        arguments: more arguments of the function, by name.
    """

    compiles = False

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise ValueError(f"Lambda expected a function, but got {function!r}.")
        self.function = function
        self.arguments = dict(arguments or {})
        self.mask = mask
        self.supports_masking = mask is not None
        self._output_shape = output_shape

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        code = getattr(self.function, "__code__", None)
        names = code.co_varnames[: code.co_argcount] if code is not None else ()
        given = {"mask": mask, "training": training}
        more = {name: value for name, value in given.items() if name in names}
        return self.function(inputs, **self.arguments | more)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if self._output_shape is None:
            return symbolic.trace_call(self, args, kwargs)
        return super().compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        if callable(self._output_shape):
            return self._output_shape(input_shape)
        if self._output_shape is None:
            tensors = symbolic.shapes_to_symbols(self, input_shape)
            return symbolic.symbols_to_shapes(self.compute_output_spec(tensors))
        batch = input_shape[0] if is_shape(input_shape) else None
        return (batch, *self._output_shape)

    def get_config(self) -> dict[str, Any]:
        """Not possible.

        Raises:
            NotImplementedError: always; says what to write instead.
        """
        raise NotImplementedError(
            f"Lambda {self.name!r} cannot be saved, since loading a file runs nobody's code: write "
            "a class Name(Layer) whose call is the function, and register it with "
            "@register_keras_serializable()."
        )
