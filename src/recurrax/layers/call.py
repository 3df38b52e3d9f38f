"""What happens when a layer is called: on arrays, inside a trace, or on symbolic tensors."""

import contextlib
import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from recurrax.layers.graph import Node, SymbolicTensor, is_symbolic
from recurrax.layers.inference import infer
from recurrax.layers.mask import get_mask, set_mask
from recurrax.variable import StatelessScope, autocast, current_scope, name_scope


class _Context(threading.local):
    depth = 0
    training: bool | None = None


_context = _Context()
_settings = [0]


def settings_changed() -> None:
    """What was compiled for a layer's earlier settings is not used again."""
    if _context.depth == 0:
        _settings[0] += 1


class Signature(NamedTuple):
    """What a class's `call` takes."""

    signature: inspect.Signature
    names: tuple[str, ...]
    takes_training: bool
    takes_mask: bool


@functools.cache
def signature_of(cls: type) -> Signature:
    """The signature of `cls.call`, without `self`."""
    signature = inspect.signature(cls.call)
    parameters = list(signature.parameters.values())[1:]
    names = tuple(p.name for p in parameters)
    return Signature(
        signature.replace(parameters=parameters), names, "training" in names, "mask" in names
    )


def call_layer(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`layer(*args, **kwargs)`."""
    if "built" not in layer.__dict__:
        raise RuntimeError(
            f"{type(layer).__name__}.__init__ did not call super().__init__(): add that as its "
            "first line."
        )
    signature = signature_of(type(layer))
    training = kwargs.get("training")
    if not signature.takes_training:
        kwargs = {k: v for k, v in kwargs.items() if k != "training"}
    arguments = dict(signature.signature.bind(*args, **kwargs).arguments)
    if training is None:
        training = arguments.get("training", _context.training)
    if training is None:
        training = _default(signature, "training") or False
    if signature.takes_training:
        arguments["training"] = training

    leaves = jax.tree.leaves(arguments)
    if any(is_symbolic(leaf) for leaf in leaves):
        return _call_symbolic(layer, arguments, training)
    inputs = _first(arguments)
    _check_inputs(layer, inputs)
    if (
        _context.depth > 0
        or current_scope() is not None
        or any(isinstance(leaf, Tracer) for leaf in leaves)
    ):
        ensure_built(layer, arguments)
        return _run(layer, arguments, training)
    _clear_losses(layer)
    layer.check_values(inputs) if hasattr(layer, "check_values") else None
    if not compiles(layer):
        ensure_built(layer, arguments, by_tracing=False)
        return _run(layer, arguments, training)
    ensure_built(layer, arguments)
    return _call_compiled(layer, arguments, training)


def compiles(layer: Any) -> bool:
    """Whether a call of `layer` on arrays is compiled as a whole.

    The layers of this package are. A layer whose `call` is the user's runs as it is written, line
    by line, so that one can print and look at values; the layers in it are compiled.
    """
    if layer.compiles is not None:
        return layer.compiles
    ours = type(layer).call.__module__.startswith("recurrax.")
    return ours and all(compiles(child) for child in layer.sublayers)


# ---------------------------------------------------------------------- running `call`


@contextlib.contextmanager
def _entered(layer: Any, training: bool) -> Iterator[None]:
    outer = _context.training
    _context.depth, _context.training = _context.depth + 1, training
    try:
        policy = layer.dtype_policy
        mixed = policy.compute_dtype != policy.variable_dtype
        with name_scope(layer.name), autocast(policy.compute_dtype if mixed else None):
            yield
    finally:
        _context.depth, _context.training = _context.depth - 1, outer


def _run(layer: Any, arguments: dict[str, Any], training: bool) -> Any:
    """Run `layer.call`: fill in masks, cast inputs, hand on masks, add the activity loss."""
    arguments = dict(arguments)
    masks = _fill_masks(layer, arguments)
    if layer.autocast:
        arguments = _cast(arguments, layer.compute_dtype)
    with _entered(layer, training):
        outputs = layer.call(**_splat(layer, arguments))
    regularizer = layer.activity_regularizer
    if regularizer is not None:
        for output in jax.tree.leaves(outputs):
            layer.add_loss(regularizer(output) / output.shape[0])
    _mask_outputs(layer, _first(arguments), outputs, masks)
    return outputs


def _splat(layer: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `call` by name; those of `**kwargs` among the others."""
    parameters = signature_of(type(layer)).signature.parameters
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and name in arguments:
            arguments = {**arguments, **arguments.pop(name)}
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and arguments.get(name):
            raise TypeError(
                f"{type(layer).__name__}.call takes *{name}, which cannot be followed through a "
                "model: take one argument that is a list instead."
            )
    return arguments


def _fill_masks(layer: Any, arguments: dict[str, Any]) -> Any:
    """Give `mask=` and `<name>_mask=` what travels with the tensors; returns the first's."""
    signature = signature_of(type(layer))
    inputs = _first(arguments)
    attached = jax.tree.map(get_mask, inputs)
    has_mask = any(get_mask(leaf) is not None for leaf in jax.tree.leaves(inputs))
    if signature.takes_mask:
        if arguments.get("mask") is None and has_mask:
            arguments["mask"] = attached
        given = arguments.get("mask")
        if given is not None:
            return given
    for name in signature.names:
        of = name.removesuffix("_mask")
        if of != name and of in signature.names and arguments.get(name) is None:
            mask = jax.tree.map(get_mask, arguments.get(of))
            if jax.tree.leaves(mask):
                arguments[name] = mask
    return attached if has_mask else None


def _mask_outputs(layer: Any, inputs: Any, outputs: Any, masks: Any) -> None:
    overridden = overrides(layer, "compute_mask")
    if not layer.supports_masking and not overridden:
        if masks is not None and jax.tree.leaves(masks):
            warnings.warn(
                f"Layer {layer.name!r} ({type(layer).__name__}) got an input with a mask, but does "
                "not support masking: layers after it do not see the mask. Set "
                "self.supports_masking = True in it to hand the mask on.",
                stacklevel=5,
            )
        return
    if masks is None and not overridden:
        return
    computed = layer.compute_mask(inputs, masks)
    if computed is None:
        return
    tensors = jax.tree.leaves(outputs)
    flat = jax.tree.leaves(computed, is_leaf=lambda m: m is None)
    for tensor, mask in zip(tensors, flat, strict=False):
        if mask is not None and get_mask(tensor) is None:
            set_mask(tensor, mask)


def _cast(arguments: dict[str, Any], dtype: str) -> dict[str, Any]:
    def cast(x: Any) -> Any:
        if isinstance(x, Array | np.ndarray) and jnp.issubdtype(x.dtype, jnp.floating):
            if x.dtype == dtype:
                return x
            mask, y = get_mask(x), jnp.asarray(x, dtype)
            set_mask(y, mask)
            return y
        return x

    return jax.tree.map(cast, arguments)


# ---------------------------------------------------------------------- on arrays


class _Static(NamedTuple):
    """What of a call is compiled in: its structure, its plain values, the layers' settings."""

    names: tuple[str, ...]
    treedef: Any
    plain: tuple[Hashable, ...]
    training: bool
    settings: int


_TRACED = object()


def _call_compiled(layer: Any, arguments: dict[str, Any], training: bool) -> Any:
    leaves, treedef = jax.tree.flatten(list(arguments.values()))
    dynamic = [leaf for leaf in leaves if _is_data(leaf)]
    plain = tuple(_TRACED if _is_data(leaf) else leaf for leaf in leaves)
    static = _Static(tuple(arguments), treedef, plain, training, _settings[0])
    try:
        hash(static)
    except TypeError:  # an argument that cannot be compiled in
        return _run(layer, arguments, training)
    masks = [get_mask(leaf) for leaf in leaves if _is_data(leaf)]
    variables = layer.variables
    compiled = layer.__dict__.get("_compiled")
    if compiled is None:
        compiled = layer.__dict__["_compiled"] = _compile(layer)
    outputs, out_masks, updates, losses = compiled(
        static, [v._value for v in variables], dynamic, masks
    )
    for index, value in updates.items():
        variables[index].replace(value)
    layer._losses[:] = losses
    for output, mask in zip(jax.tree.leaves(outputs), out_masks, strict=True):
        if mask is not None:
            set_mask(output, mask)
    return outputs


def _compile(layer: Any) -> Callable[..., Any]:
    def run(static: _Static, values: list[Any], dynamic: list[Any], masks: list[Any]) -> Any:
        traced = iter(dynamic)
        leaves = [next(traced) if leaf is _TRACED else leaf for leaf in static.plain]
        for leaf, mask in zip(dynamic, masks, strict=True):
            set_mask(leaf, mask)
        values_by_name = jax.tree.unflatten(static.treedef, leaves)
        arguments = dict(zip(static.names, values_by_name, strict=True))
        variables = layer.variables
        with StatelessScope(zip(variables, values, strict=True)) as scope:
            outputs = _run(layer, arguments, static.training)
        new = [scope.get_current_value(v) for v in variables]
        updates = {i: n for i, (n, v) in enumerate(zip(new, values, strict=True)) if n is not v}
        out_masks = [get_mask(leaf) for leaf in jax.tree.leaves(outputs)]
        return outputs, out_masks, updates, scope.losses

    return jax.jit(run, static_argnums=0)


def _is_data(x: Any) -> bool:
    return isinstance(x, Array | np.ndarray | np.generic)


def _clear_losses(layer: Any) -> None:
    for each in layer.flatten_layers():
        each._losses.clear()


# ---------------------------------------------------------------------- building


def ensure_built(layer: Any, arguments: dict[str, Any], by_tracing: bool = True) -> None:
    """Make the weights of `layer`, and of the layers in it, for these arguments."""
    if layer.built:
        return
    if overrides(layer, "build"):
        layer.build(**_shape_arguments(layer.build, arguments))
    elif layer.sublayers and by_tracing:
        # Nothing says how the layers inside are fed: a call on shapes alone builds them.
        symbolic = {
            name: jax.tree.map(lambda x: _to_symbol(x) if _is_data(x) else x, value)
            for name, value in arguments.items()
        }
        layer.built = True
        try:
            trace_outputs(layer, symbolic)
        except BaseException:
            layer.built = False
            raise
    layer.built = True


def _shape_arguments(method: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments for `build` and its like: the first one's shape, `<name>_shape` by name."""
    parameters = [
        p
        for p in inspect.signature(method).parameters.values()
        if p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]
    shapes: dict[str, Any] = {}
    for parameter in parameters:
        of = parameter.name.removesuffix("_shape")
        if parameter is parameters[0]:
            shapes[parameter.name] = _shapes(_first(arguments))
        elif of != parameter.name and jax.tree.leaves(arguments.get(of)):
            shapes[parameter.name] = _shapes(arguments[of])
    return shapes


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: tuple(getattr(x, "shape", ())), tree)


def _to_symbol(x: Any) -> SymbolicTensor:
    return SymbolicTensor(x.shape, x.dtype)


def _check_inputs(layer: Any, inputs: Any) -> None:
    spec = layer.input_spec
    if spec is None:
        return
    specs = spec if isinstance(spec, list | tuple) else [spec]
    tensors = [leaf for leaf in jax.tree.leaves(inputs) if hasattr(leaf, "shape")]
    for one, x in zip(specs, tensors, strict=False):
        if one is not None:
            one.check(tuple(x.shape), x.dtype, layer.name)


# ---------------------------------------------------------------------- on symbolic tensors


def _call_symbolic(layer: Any, arguments: dict[str, Any], training: bool) -> Any:
    _check_inputs(layer, _first(arguments))
    ensure_built(layer, arguments)
    with _entered(layer, training):
        outputs = layer.compute_output_spec(**_splat(layer, arguments))
    node = Node(layer, arguments, outputs)
    if _context.depth == 0:
        layer._nodes.append(node)
    return outputs


def infer_outputs(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `layer(*args, **kwargs)` returns, as symbolic tensors."""
    bound = dict(signature_of(type(layer)).signature.bind(*args, **kwargs).arguments)
    if not overrides(layer, "compute_output_shape"):
        return trace_outputs(layer, bound)
    shapes = _shape_arguments(layer.compute_output_shape, bound)
    shape = layer.compute_output_shape(**shapes)
    return jax.tree.map(lambda s: SymbolicTensor(s, layer.compute_dtype), shape, is_leaf=is_shape)


def trace_outputs(layer: Any, arguments: dict[str, Any]) -> Any:
    """The outputs of `layer.call` by running it on shapes."""
    names = list(arguments)

    def trace(*values: Any) -> Any:
        with StatelessScope():
            return _run(
                layer, dict(zip(names, values, strict=True)), bool(arguments.get("training"))
            )

    return infer(trace, list(arguments.values()))


def is_shape(x: Any) -> bool:
    """Whether `x` is a shape, not a structure of shapes."""
    return isinstance(x, list | tuple) and all(s is None or isinstance(s, int) for s in x)


def shapes_to_symbols(layer: Any, shapes: tuple[Any, ...]) -> list[Any]:
    """Symbolic tensors of these shapes, in the layer's compute dtype."""
    return [
        jax.tree.map(lambda s: SymbolicTensor(s, layer.compute_dtype), shape, is_leaf=is_shape)
        for shape in shapes
    ]


def overrides(layer: Any, method: str) -> bool:
    """Whether a class between `Layer` and the layer's own defines `method`."""
    return getattr(type(layer), method).__module__ != "recurrax.layers.layer"


def _first(arguments: dict[str, Any]) -> Any:
    return next(iter(arguments.values()), None)


def _default(signature: Signature, name: str) -> Any:
    parameter = signature.signature.parameters.get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return None
    return parameter.default
