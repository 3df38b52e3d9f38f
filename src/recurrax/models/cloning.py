"""`clone_model`: another model of the same architecture."""

from collections.abc import Callable
from typing import Any

from recurrax.layers import cloning
from recurrax.layers.graph import replace_symbols, symbolic_leaves
from recurrax.layers.input_layer import InputLayer
from recurrax.layers.layer import Layer
from recurrax.layers.operation import Operation
from recurrax.models.functional import Functional
from recurrax.models.functional_config import made_like_functional
from recurrax.models.sequential import Sequential


def clone_model(
    model: Any,
    input_tensors: Any = None,
    clone_function: Callable[[Any], Any] | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
) -> Any:
    """A model of the same architecture, with fresh weights and not compiled.

    Args:
        model: the model.
        input_tensors: what the clone begins with, in the structure of the model's inputs (of a
            Sequential, an `Input`); new `Input`s where None.
        clone_function: `fn(layer)` returns what stands in the place of a layer: another one, or
            the layer itself, which both models then share; inputs are not asked for. By
            default a layer of the same configuration.
        call_function: `fn(layer, *args, **kwargs)` calls what `clone_function` returned, and may
            call further layers before or after it; of functional models only.
        recursive: models inside are cloned layer by layer too, not by one call of
            `clone_function`.

    Raises:
        ValueError: the model holds something that has no configuration, `clone_function` returns
            no layer, `input_tensors` do not fit, or the model is not one whose layers can be
            replaced.
    """
    if not isinstance(model, Layer):
        raise ValueError(f"clone_model expected a model, but got {model!r:.80}.")
    for name, function in (("clone_function", clone_function), ("call_function", call_function)):
        if function is not None and not callable(function):
            raise ValueError(f"{name} must be a function of a layer, but it is {function!r}.")
    if input_tensors is clone_function is call_function is None and not recursive:
        twin = cloning.twin(model)
        if model.built and not twin.built:
            twin.build_from_config(model.get_build_config() or {})
        return twin
    if call_function is not None and not isinstance(model, Functional):
        raise ValueError(
            f"call_function is for functional models, but {model.name!r} is a "
            f"{type(model).__name__}: leave it out."
        )
    cloner = _Cloner(clone_function or cloning.twin, call_function, recursive)
    return cloner.model(model, symbolic_leaves(input_tensors))


class _Cloner:
    """What has been cloned so far, so that what is shared stays shared."""

    def __init__(self, clone_function: Any, call_function: Any, recursive: bool) -> None:
        self.clone_function = clone_function
        self.call_function = call_function
        self.recursive = recursive
        self._clones: dict[int, Any] = {}

    def model(self, model: Any, given: list[Any]) -> Any:
        """The clone of a model on the symbolic tensors given, if any."""
        if isinstance(model, Sequential):
            twin = self._sequential(model, given)
        elif isinstance(model, Functional):
            twin = self._functional(model, given)
        else:
            raise ValueError(
                f"clone_model can replace layers of Sequential and functional models, but "
                f"{model.name!r} is a {type(model).__name__}: leave the functions out, or make it "
                "from its get_config()."
            )
        if not model.trainable:
            twin.trainable = False
        return twin

    def _layer(self, layer: Any) -> Any:
        if id(layer) not in self._clones:
            nested = self.recursive and isinstance(layer, Sequential | Functional)
            clone = self.model(layer, []) if nested else self.clone_function(layer)
            if not isinstance(clone, Layer):
                raise ValueError(
                    f"clone_function must return a layer, but for {layer.name!r} it returned "
                    f"{clone!r}."
                )
            self._clones[id(layer)] = clone
        return self._clones[id(layer)]

    def _sequential(self, model: Any, given: list[Any]) -> Any:
        _check_number(model, given, 1)
        inputs = given or [cloning.twin(x) for x in model._layers if isinstance(x, InputLayer)]
        twin = type(model)([*inputs, *map(self._layer, model.layers)], name=model.name)
        if model.built and not twin.built:
            twin.build_from_config(model.get_build_config() or {})
        return twin

    def _functional(self, model: Any, given: list[Any]) -> Any:
        _check_number(model, given, len(model.inputs))
        values: dict[int, Any] = dict(zip(map(id, model.inputs), given, strict=False))

        def renewed(tree: Any) -> Any:
            return replace_symbols(tree, lambda tensor: values[id(tensor)])

        for tensor in model.inputs[len(given) :]:
            values[id(tensor)] = cloning.twin(tensor.node.layer).output
        for node in sorted(model.network.nodes, key=lambda node: node.number):
            if isinstance(node.layer, InputLayer):
                continue
            args, kwargs = renewed((node.args, node.kwargs))
            if isinstance(node.layer, Operation):
                outputs = node.layer(*args, **kwargs)
            elif self.call_function is None:
                outputs = self._layer(node.layer)(*args, **kwargs)
            else:
                outputs = self.call_function(self._layer(node.layer), *args, **kwargs)
            old, new = symbolic_leaves(node.outputs), symbolic_leaves(outputs)
            if len(old) != len(new):
                raise ValueError(
                    f"What stands for layer {node.layer.name!r} must return {len(old)} tensors, "
                    f"but it returned {outputs!r:.200}."
                )
            values |= zip(map(id, old), new, strict=True)
        cls = type(model) if made_like_functional(type(model)) else Functional
        return cls(renewed(model.input), renewed(model.output), name=model.name)


def _check_number(model: Any, given: list[Any], wanted: int) -> None:
    if given and len(given) != wanted:
        raise ValueError(
            f"input_tensors must hold a symbolic tensor for each of {wanted} inputs of model "
            f"{model.name!r}, but it holds {len(given)}: begin with Input(shape)."
        )
