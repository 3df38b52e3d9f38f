"""`Input`: where a model begins."""

from typing import Any

from recurrax.layers.checks import shape_sizes
from recurrax.layers.graph import Node, SymbolicTensor
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class InputLayer(Layer):
    """The layer behind an `Input`.

    Args:
        shape: shape of one sample, None where unknown.
        batch_size: size of a batch, if it is fixed.
        dtype: data type.
        batch_shape: shape of a batch, in place of `shape` and `batch_size`.

    Raises:
        ValueError: both shapes or none, or a size not positive.
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        batch_shape: Any = None,
        name: str | None = None,
        optional: bool = False,
        sparse: bool = False,
        ragged: bool = False,
        **kwargs: Any,
    ) -> None:
        if sparse or ragged:
            raise ValueError("Input takes dense arrays only: pad the sequences and pass a mask.")
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        shape = kwargs.pop("input_shape", shape)
        if (shape is None) == (batch_shape is None):
            raise ValueError(
                f"Input expected either shape or batch_shape, but got shape={shape!r} and "
                f"batch_shape={batch_shape!r}: pass one, such as shape=(None, 8)."
            )
        super().__init__(name=name, **kwargs)
        if batch_shape is None:
            batch_shape = (batch_size, *shape_sizes(shape, "Input"))
        self.batch_shape = shape_sizes(batch_shape, "Input")
        self.known_input_shape = self.batch_shape
        self.input_dtype = dtype or "float32"
        self.optional = optional
        self.built = True
        tensor = SymbolicTensor(self.batch_shape, self.input_dtype, name=self.name)
        self._nodes.append(Node(self, (), {}, tensor))

    dtype = property(lambda self: self.input_dtype)

    def call(self, inputs: Any = None) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.input_dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": self.optional,
        }


def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool = False,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> Any:
    """A symbolic tensor to begin a model with.

    Args:
        shape: shape of one sample, None where unknown: `(None, 8)` is a sequence of any length.
        batch_size: size of a batch, if it is fixed.
        dtype: data type, float32 where None.
        batch_shape: shape of a batch, in place of `shape` and `batch_size`.
        name: name of the input.
        tensor: a symbolic tensor to be used as it is.

    Raises:
        ValueError: both shapes or none, or a size not positive.
    """
    if tensor is not None:
        return tensor
    return InputLayer(
        shape, batch_size, dtype, batch_shape, name, optional=optional, sparse=sparse
    ).output
