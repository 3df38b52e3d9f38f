"""The built-in recurrent layers: a cell's arguments plus the loop's, plumbed here once."""

import inspect
import textwrap
from typing import Any

from recurrax.layers import auto_config
from recurrax.layers.cell import GatedCell
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.layers.rnn import RNN
from recurrax.naming import to_snake_case


class BuiltinRNN(RNN):
    """Base of the built-in recurrent layers: `RNN(cell(...))` under one name."""

    cell_class: type[GatedCell] = GatedCell

    def __init_subclass__(cls, cell: type[GatedCell] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cell is None:  # a subclass of a built-in layer
            return
        cls.cell_class = cell
        cls.__signature__ = _joined_signature(cell)
        cls.__doc__ = _joined_doc(cls, cell)

    def __init__(self, *args: Any, use_cudnn: Any = "auto", **kwargs: Any) -> None:
        if kwargs.pop("time_major", False):
            raise ValueError(
                f"{type(self).__name__} does not take time_major=True: pass (batch, timesteps, "
                "features), for instance with jnp.swapaxes(x, 0, 1)."
            )
        # Old code chooses by them between ways of computing the same thing.
        self.use_cudnn = use_cudnn
        kwargs.pop("implementation", None)
        of_cell = set(auto_config.argument_names(self.cell_class))
        of_cell -= set(auto_config.argument_names(Layer))
        cell_arguments = {k: kwargs.pop(k) for k in list(kwargs) if k in of_cell}
        shared = {k: kwargs[k] for k in ("dtype", "trainable") if k in kwargs}
        name = self.cell_class.default_name or to_snake_case(self.cell_class.__name__)
        cell = self.cell_class(*args, name=name, **cell_arguments, **shared)
        super().__init__(cell, **kwargs)
        self.input_spec = InputSpec(ndim=3, axis_names=("batch", "timesteps", "features"))

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        super().build(sequences_shape, initial_state_shape)
        self.input_spec.axes = {2: sequences_shape[-1]}

    def __getattr__(self, name: str) -> Any:
        # units, activation, kernel_initializer and the rest are the cell's.
        cell = self.__dict__.get("cell")
        if cell is None or name.startswith("_") or name not in cell.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return cell.__dict__[name]

    def get_config(self) -> dict[str, Any]:
        own = {**Layer.get_config(self), **self.loop_config()}
        if self.use_cudnn != "auto":  # Keras takes it, and names it in no configuration
            own["use_cudnn"] = self.use_cudnn
        of_cell = self.cell.get_config()
        return {**of_cell, **own, "activity_regularizer": self.activity_regularizer}


def _joined_signature(cell: type[GatedCell]) -> inspect.Signature:
    parameters: dict[str, inspect.Parameter] = {}
    for cls in (*cell.__mro__, RNN):
        if "__init__" not in cls.__dict__ or cls is object:
            continue
        for p in inspect.signature(cls.__init__).parameters.values():
            if p.name in ("self", "cell") or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                continue
            parameters.setdefault(p.name, p)
    own = inspect.signature(cell.__init__).parameters
    head = [
        parameters.pop(n)
        for n, p in own.items()
        if n != "self" and n in parameters and p.default is p.empty
    ]
    parameters.pop("units", None)
    return inspect.Signature(head + [p.replace(kind=p.KEYWORD_ONLY) for p in parameters.values()])


def _joined_doc(cls: type, cell: type[GatedCell]) -> str:
    """The layer's own lines, the cell's, the shared arguments, and the loop's."""
    docs = [textwrap.dedent(" " * 4 + (c.__doc__ or "")).strip() for c in (cls, cell)]
    cell_arguments = inspect.getdoc(GatedCell) or ""
    loop_arguments = inspect.getdoc(RNN) or ""
    return "\n\n".join(
        [
            *docs,
            cell_arguments[cell_arguments.index("Args:") : cell_arguments.index("Raises:")].strip(),
            loop_arguments[loop_arguments.index("    return_sequences:") :].rstrip(),
            "Arguments of old code without effect: use_cudnn, implementation.",
        ]
    )
