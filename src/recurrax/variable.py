"""`Variable`: a named array that changes, and the scope that makes changing it a pure function."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer


class _Context(threading.local):
    scope: "StatelessScope | None" = None
    compute_dtype: Any = None
    names: tuple[str, ...] = ()
    allowance: list[int] | None = None
    waiting: "list[Variable] | None" = None


_context = _Context()


class StatelessScope:
    """Inside it, reading and assigning variables touches the scope and not the variables.

    So code written with `variable.assign(...)` can be traced by `jax.jit` or `jax.grad`.

    Args:
        state_mapping: pairs of a variable and the value that it has inside the scope.
    """

    def __init__(self, state_mapping: Iterable[tuple["Variable", Any]] = ()) -> None:
        self._values = {id(variable): value for variable, value in state_mapping}
        self._outer: StatelessScope | None = None
        self.losses: list[Array] = []

    def get_current_value(self, variable: "Variable") -> Any:
        """The value inside this scope or those around it; None where none speaks of `variable`."""
        value = self._values.get(id(variable))
        if value is None and self._outer is not None:
            return self._outer.get_current_value(variable)
        return value

    def add_update(self, variable: "Variable", value: Any) -> None:
        """Give `variable` another value inside this scope."""
        self._values[id(variable)] = value

    def __enter__(self) -> "StatelessScope":
        self._outer, _context.scope = _context.scope, self
        return self

    def __exit__(self, *exception: object) -> None:
        _context.scope = self._outer


def current_scope() -> StatelessScope | None:
    """The innermost `StatelessScope` of this thread."""
    return _context.scope


@contextlib.contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Variables made inside have `name/` in front of their path."""
    outer = _context.names
    _context.names = (*outer, name)
    try:
        yield
    finally:
        _context.names = outer


@contextlib.contextmanager
def autocast(dtype: Any) -> Iterator[None]:
    """Inside, floating-point variables read as `dtype` (None: as they are)."""
    outer, _context.compute_dtype = _context.compute_dtype, dtype
    try:
        yield
    finally:
        _context.compute_dtype = outer


@contextlib.contextmanager
def initialized_last() -> Iterator[None]:
    """Inside, new variables hold zeros; at the end those that nobody assigned to are initialized.

    Large orthogonal matrices take seconds, and a file is about to give their values.
    """
    outer, _context.waiting = _context.waiting, []
    try:
        yield
        for variable in _context.waiting:
            variable._initialize()
    finally:
        _context.waiting = outer


@contextlib.contextmanager
def allocation_limit(size: int) -> Iterator[None]:
    """Inside, variables of more than `size` bytes in all are refused before they are made."""
    outer, _context.allowance = _context.allowance, [size]
    try:
        yield
    finally:
        _context.allowance = outer


def claim(shape: Sequence[int], dtype: Any, name: str) -> None:
    """Take the bytes of an array off what the enclosing `allocation_limit` leaves.

    Raises:
        ValueError: they are more.
    """
    if _context.allowance is None:
        return
    size = math.prod(shape) * np.dtype(dtype).itemsize
    left = _context.allowance[0]
    if size > left:
        raise ValueError(
            f"{name!r} of shape {tuple(shape)} and type {np.dtype(dtype)} would take {size:,} "
            f"bytes, but the file leaves room for {left:,}."
        )
    _context.allowance[0] = left - size


def _copied(value: Any, dtype: Any) -> Array:
    """`value` as an array of its own: training donates the buffer, the caller's must survive.

    Numbers of the type wanted are copied as they are: `jnp.array` compiles a program to copy.
    """
    plain = isinstance(value, np.ndarray | Array) and isinstance(value.dtype, np.dtype)
    is_weak = getattr(value, "weak_type", False)  # would be promoted as a Python number is
    if plain and not is_weak and not isinstance(value, Tracer):
        known = jax.dtypes.canonicalize_dtype(value.dtype)
        if dtype is None or dtype == known:
            if isinstance(value, np.ndarray):  # `device_put` may keep to the memory of such
                value = value.copy()
            return jax.device_put(value, may_alias=False)
    return jnp.array(value, dtype=dtype)


class Variable:
    """A named array that can be assigned to.

    Args:
        initializer: a value, or a function `(shape, dtype) -> array`.
        shape: shape of the array; needed only where `initializer` is a function.
        dtype: data type; that of the value, or float32.
        trainable: whether optimizers change it.
        name: its own name; `path` puts the names of the layers around it in front.
        autocast: whether layers of another compute dtype read it in theirs.

    Raises:
        ValueError: a function without a shape, or (`assign`) a value of another shape.
    """

    def __init__(
        self,
        initializer: Any,
        shape: Sequence[int] | None = None,
        dtype: Any = None,
        trainable: bool = True,
        name: str | None = None,
        autocast: bool = True,
    ) -> None:
        self.name = name or "variable"
        self.path = "/".join((*_context.names, self.name))
        self.trainable = trainable
        self.autocast = autocast
        self._initializer: Callable[..., Any] | None = None
        self.regularizer: Callable[[Array], Array] | None = None
        self.constraint: Callable[[Array], Array] | None = None
        if callable(initializer):
            if shape is None:
                raise ValueError(
                    f"Variable {self.name!r} was given an initializer function and no shape: "
                    "pass shape=(...)."
                )
            dtype = jnp.dtype(dtype or "float32")
            claim(shape, dtype, self.path)
            if _context.waiting is None:
                with jax.ensure_compile_time_eval():
                    value = initializer(tuple(shape), dtype)
            else:
                value = np.zeros(shape, dtype)
                self._initializer = initializer
                _context.waiting.append(self)
        else:
            value = initializer
            claim(np.shape(value), dtype or getattr(value, "dtype", "float32"), self.path)
        with jax.ensure_compile_time_eval():
            self._value: Array = _copied(value, dtype)

    def _initialize(self) -> None:
        if self._initializer is not None:
            with jax.ensure_compile_time_eval():
                self._value = _copied(self._initializer(self.shape, self.dtype), self.dtype)
            self._initializer = None

    @property
    def value(self) -> Array:
        """The array as it is now, in the enclosing scope if there is one."""
        value = None if _context.scope is None else _context.scope.get_current_value(self)
        if value is None:
            value = self._value
        dtype = _context.compute_dtype
        if (
            dtype is not None
            and self.autocast
            and value.dtype != dtype
            and jnp.issubdtype(value.dtype, jnp.floating)
        ):
            value = value.astype(dtype)
        return value

    def assign(self, value: Any) -> Any:
        """Give the variable another value, of the same shape.

        Raises:
            ValueError: the shape differs, or a traced value would escape its trace.
        """
        if isinstance(value, Variable):
            value = value.value
        if not isinstance(value, Array):
            value = np.asarray(value)
        if value.shape != self.shape:
            raise ValueError(
                f"Variable {self.path!r} has shape {self.shape} and was assigned a value of shape "
                f"{value.shape}: reshape the value to {self.shape}."
            )
        if _context.scope is not None:
            value = jnp.asarray(value, dtype=self.dtype)
            _context.scope.add_update(self, value)
        elif isinstance(value, Tracer):
            raise ValueError(
                f"Variable {self.path!r} was assigned inside a jax transformation, whose value "
                "must not escape it: call the layer through `layer.stateless_call(...)` there."
            )
        else:
            self._value = _copied(value, self.dtype)
            self._initializer = None
        return value

    def assign_add(self, value: Any) -> Any:
        """Add `value` to the variable."""
        return self.assign(self.value + value)

    def assign_sub(self, value: Any) -> Any:
        """Subtract `value` from the variable."""
        return self.assign(self.value - value)

    def replace(self, value: Array) -> None:
        """Take over `value`, the result of a compiled step, as it is: no copy and no check."""
        self._value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.shape

    @property
    def dtype(self) -> Any:
        return self._value.dtype

    @property
    def ndim(self) -> int:
        return self._value.ndim

    @property
    def size(self) -> int:
        return self._value.size

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        return np.array(self.value)

    def __jax_array__(self) -> Array:
        return self.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype)

    def __len__(self) -> int:
        return len(self._value)

    def __getitem__(self, index: Any) -> Array:
        return self.value[index]

    def __getattr__(self, name: str) -> Any:
        # Methods of the array itself: `variable.astype(...)`, `variable.T`, `variable.sum()`.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.value, name)

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __copy__(self) -> "Variable":
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> "Variable":
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._value = jnp.array(self._value)
        memo[id(self)] = twin
        return twin


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: Variable, *others: Any) -> Any:
        others = tuple(o.value if isinstance(o, Variable) else o for o in others)
        return getattr(self.value, name)(*others)

    apply.__name__ = name
    return apply


_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"]
for _name in [
    f"__{op}__" for op in (*_BINARY, "neg", "pos", "abs", "invert", "lt", "le", "gt", "ge")
] + [f"__r{op}__" for op in _BINARY]:
    setattr(Variable, _name, _operator(_name))


# So that every `jax.numpy` function takes a variable. What is rebuilt is the plain array: a
# variable never enters a trace. To walk a structure of variables, use `variables_in`.
jax.tree_util.register_pytree_node(
    Variable,
    lambda variable: ((variable.value,), None),
    lambda _, children: children[0],  # pyright: ignore[reportArgumentType]
)


def variables_in(tree: Any) -> list[Variable]:
    """The variables in a structure."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Variable))
    return [leaf for leaf in leaves if isinstance(leaf, Variable)]
