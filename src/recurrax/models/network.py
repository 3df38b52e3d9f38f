"""The part of a graph between some inputs and some outputs, in the order of Keras's models."""

from collections.abc import Sequence
from typing import Any

from recurrax.layers.graph import Node, SymbolicTensor, replace_symbols, symbolic_leaves
from recurrax.layers.input_layer import Input, InputLayer


class Network:
    """What lies between `inputs` and `outputs`.

    The order of the layers, and with it that of a model's weights, is Keras's: by depth, the
    number of calls between a layer and the furthest output; at one depth, as met when walking
    from the outputs, in order, back to the inputs.

    Args:
        inputs, outputs: symbolic tensors.

    Attributes:
        nodes: the calls, each after those it depends on.
        layers: what is called, layers and operations.

    Raises:
        ValueError: an output that depends on something which is no input, or two layers of one
            name.
    """

    def __init__(self, inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> None:
        given = {id(tensor) for tensor in inputs}
        found: list[Node] = []
        met: dict[int, int] = {}
        _walk(given, outputs, found, met)
        used = {id(node) for node in found}
        unused = [t.node for t in inputs if t.node is not None and id(t.node) not in used]
        layer_depth = _depths(found)
        for node in unused:
            layer_depth[id(node.layer)] = 0
            met[id(node.layer)] = -1
        self.nodes = [*found, *unused]
        layers = list({id(node.layer): node.layer for node in self.nodes}.values())
        self.layers: list[Any] = sorted(
            layers, key=lambda layer: (-layer_depth[id(layer)], met[id(layer)])
        )
        self._check_names()

    def _check_names(self) -> None:
        seen: set[str] = set()
        for layer in self.layers:
            if layer.name in seen:
                raise ValueError(
                    f"Two layers of the model are named {layer.name!r}: give one of them another "
                    "name, such as name='encoder_lstm'."
                )
            seen.add(layer.name)

    def history(self, tensor: SymbolicTensor) -> tuple[str, int, int]:
        """Name of the layer a tensor comes from, which of its calls here, which of its outputs."""
        node = tensor.node
        assert node is not None
        return node.layer.name, self.calls_of(node.layer).index(node), tensor.index

    def connections(self, layer: Any) -> str:
        """What a layer is called on: `name[call][output]`, separated by commas."""
        if isinstance(layer, InputLayer):
            return ""
        tensors = [tensor for node in self.calls_of(layer) for tensor in node.inputs]
        return ", ".join("{}[{}][{}]".format(*self.history(tensor)) for tensor in tensors)

    def calls_of(self, layer: Any) -> list[Node]:
        """The calls of one layer in this network, in the order in which they were made."""
        return sorted((n for n in self.nodes if n.layer is layer), key=lambda n: n.number)


def _walk(
    given: set[int],
    outputs: Sequence[SymbolicTensor],
    found: list[Node],
    met: dict[int, int],
) -> None:
    """Depth first from the outputs; `found` gets each node after those it depends on."""
    done: set[int] = set()
    stack: list[tuple[Any, Any, bool]] = [(tensor, None, False) for tensor in reversed(outputs)]
    while stack:
        tensor, asker, leaving = stack.pop()
        node = tensor.node
        if leaving:
            found.append(node)
            continue
        if node is None or (isinstance(node.layer, InputLayer) and id(tensor) not in given):
            by = f" by {asker.layer.name!r}" if asker is not None else " as an output"
            raise ValueError(
                f"The graph is not connected: {tensor!r} is needed{by}, but does not come "
                "from the inputs of the model: add it, or the Input behind it, to inputs."
            )
        if id(node) in done:
            continue
        done.add(id(node))
        met.setdefault(id(node.layer), len(met))
        stack.append((tensor, asker, True))
        stack += [(parent, node, False) for parent in reversed(node.inputs)]


def _depths(found: list[Node]) -> dict[int, int]:
    """The depth of each layer."""
    nodes: dict[int, int] = {}
    layers: dict[int, int] = {}
    known = {id(node) for node in found}
    for node in reversed(found):
        depth = max(nodes.get(id(node), 0), layers.get(id(node.layer), 0))
        nodes[id(node)] = layers[id(node.layer)] = depth
        for tensor in node.inputs:
            parent = tensor.node
            if parent is not None and id(parent) in known:
                nodes[id(parent)] = max(depth + 1, nodes.get(id(parent), 0))
    return layers


def with_fresh_inputs(inputs: list[SymbolicTensor], outputs: Any) -> tuple[list[Any], Any]:
    """The graph from any tensors to `outputs`, called again so that it begins with inputs.

    Args:
        inputs: symbolic tensors, some of them in the middle of a graph.
        outputs: a structure of symbolic tensors.
    """
    fresh = [Input(batch_shape=t.shape, dtype=t.dtype, name=_input_name(t)) for t in inputs]
    known = {id(old): new for old, new in zip(inputs, fresh, strict=True)}

    def again(tensor: SymbolicTensor) -> SymbolicTensor:
        if id(tensor) not in known:
            node = tensor.node
            if node is None or isinstance(node.layer, InputLayer):
                return tensor
            args, kwargs = replace_symbols((node.args, node.kwargs), again)
            new = symbolic_leaves(node.layer(*args, **kwargs))
            old = symbolic_leaves(node.outputs)
            known.update((id(o), n) for o, n in zip(old, new, strict=True))
        return known[id(tensor)]

    return fresh, replace_symbols(outputs, again)


def _input_name(tensor: SymbolicTensor) -> str | None:
    from_input = tensor.node is not None and isinstance(tensor.node.layer, InputLayer)
    return tensor.name if from_input else None
