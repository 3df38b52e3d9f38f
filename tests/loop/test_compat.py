"""What the passes know of JAX by name is there in the JAX at hand."""

import sys

import jax
import jax.ad_checkpoint
import jax.experimental.buffer_callback
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax
from recurrax.loop import compat, cost, gates, operations, split
from recurrax.loop.native import lower, rewriting
from recurrax.models import native_step
from recurrax.saving.onnx import translate  # noqa: F401 (enters rules)
from recurrax.saving.onnx.primitives import RULES

# Of these, one of the versions served has not all.
OF_SOME_VERSIONS = {"closed_call", *compat.NEWER}
TABLES = {
    "calls": compat.ALL_CALLS,
    "free": cost._FREE,
    "slopes": gates._SLOPES,
    "layout": operations.LAYOUT,
    "elementwise": operations.ELEMENTWISE,
    "reductions": operations.REDUCTIONS,
    "products": operations.PRODUCTS,
    "draws": operations.DRAWS,
    "opaque": operations.OPAQUE,
    "sums": operations.SUMS,
    "stays": split._STAYS,
    "spreads": split._SPREADS,
    "rewritten": rewriting.RULES,
    "arithmetic": lower._ARITHMETIC,
    "views": lower._VIEWS,
    "nothing": lower._NOTHING,
    "of x alone": native_step._LOOK_UPS,
    "onnx": RULES,
}


@pytest.fixture(scope="module")
def known():
    modules = [
        module for name, module in sys.modules.items() if name.startswith(("jax.", "recurrax."))
    ]
    held = [value for module in modules for value in vars(module).values()]
    return {value.name for value in held if isinstance(value, compat.Primitive)}


@pytest.mark.parametrize("table", TABLES)
def test_primitives_are_called_what_the_passes_call_them(table, known):
    assert set(TABLES[table]) - known - OF_SOME_VERSIONS == set()


def both(f, *args):
    for scan in (recurrax.scan, jax.lax.scan):
        yield jax.jit(jax.value_and_grad(lambda h, scan=scan: f(scan, h)))(*args)


def test_ragged_products():
    w = jnp.arange(24.0).reshape(2, 3, 4)[..., :3] / 24

    def loss(scan, h):
        def step(h, _):
            h = jnp.tanh(jax.lax.ragged_dot(h, w, jnp.array([2, 3], jnp.int32)))
            return h, h

        return scan(step, h, None, length=4)[1].sum()

    ours, theirs = both(loss, jnp.linspace(-1, 1, 15).reshape(5, 3))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
