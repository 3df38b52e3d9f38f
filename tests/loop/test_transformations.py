"""`jit`, `grad`, `vmap`, `checkpoint` and their combinations, against `jax.lax.scan`."""

import jax
import jax.numpy as jnp
import pytest
from jax import export
from recurrences import arguments, assert_same, loss_of, simple

import recurrax
from recurrax.loop.scan import scan_batch_major


def gradient_of(scan):
    return jax.grad(loss_of(scan), argnums=(0, 1, 2))


def squared(function):
    def sum_of_squares(*args):
        return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(function(*args)))

    return sum_of_squares


def both(make, *args, tolerance=2e-5):
    """Hold `make(recurrax.scan)` against `make(jax.lax.scan)` on `args`."""
    assert_same(make(recurrax.scan)(*args), make(jax.lax.scan)(*args), tolerance)


@pytest.mark.parametrize(
    "make",
    [
        loss_of,
        gradient_of,
        lambda scan: jax.jit(gradient_of(scan)),
        lambda scan: jax.grad(jax.jit(loss_of(scan)), argnums=(0, 1, 2)),
        lambda scan: jax.value_and_grad(loss_of(scan), argnums=1),
        lambda scan: jax.grad(jax.checkpoint(loss_of(scan)), argnums=(0, 1, 2)),
        lambda scan: jax.jit(
            jax.grad(
                jax.checkpoint(loss_of(scan), policy=jax.checkpoint_policies.dots_saveable),
                argnums=(0, 1, 2),
            )
        ),
    ],
    ids=["plain", "grad", "jit grad", "grad jit", "value", "checkpoint", "jit checkpoint policy"],
)
def test_first_order(make):
    both(make, *arguments())


@pytest.mark.parametrize(
    "make",
    [
        lambda scan: jax.grad(squared(gradient_of(scan)), argnums=(0, 1, 2)),
        lambda scan: jax.jit(
            jax.grad(squared(jax.jit(gradient_of(scan))), argnums=(0, 1, 2)),
        ),
        lambda scan: jax.grad(
            squared(jax.grad(jax.checkpoint(loss_of(scan)), argnums=(0, 1, 2))), argnums=1
        ),
        lambda scan: jax.jacrev(jax.jacrev(loss_of(scan), argnums=1), argnums=1),
    ],
    ids=["grad grad", "jit grad jit grad", "grad grad checkpoint", "jacrev jacrev"],
)
def test_second_order(make):
    both(make, *arguments())


@jax.custom_vjp
def pulled(v, by):
    return v * by


pulled.defvjp(
    lambda v, by: (jnp.sin(v) * by, v), lambda v, ct: (jnp.clip(ct, -0.5, 0.5) * jnp.cos(v), None)
)


@jax.custom_jvp
def pushed(v):
    return jnp.sin(v)


pushed.defjvp(lambda primals, tangents: (primals[0] ** 2, tangents[0] * 0.5))


def test_second_order_goes_through_the_forward_part_of_a_rule():
    def make(scan):
        def step(h, x):
            h = 0.5 * h + pulled(h, 2.0) * pushed(h)
            h = h + jax.lax.cond(x > 0, pulled, jnp.multiply, h, 3.0)
            return h, h * x

        def first(h, xs):
            return jax.grad(lambda h: squared(scan)(step, h, xs))(h)

        return jax.value_and_grad(first, argnums=(0, 1))

    both(make, 0.3, jnp.linspace(-1, 1, 3))


@pytest.mark.parametrize(
    "axes",
    [(0, 0, 0), (None, None, 0), (0, None, None), (None, 0, None), (None, None, 1)],
    ids=["all", "xs", "weights", "states", "xs at 1"],
)
@pytest.mark.parametrize(
    "transform",
    [
        lambda scan, axes: jax.vmap(loss_of(scan), axes),
        lambda scan, axes: jax.vmap(gradient_of(scan), axes),
        lambda scan, axes: jax.jit(jax.vmap(jax.jit(gradient_of(scan)), axes)),
        lambda scan, axes: jax.grad(
            lambda *args: jax.vmap(loss_of(scan), axes)(*args).sum(), argnums=(0, 1, 2)
        ),
    ],
    ids=["vmap", "vmap grad", "jit vmap jit grad", "grad vmap"],
)
def test_vmap(transform, axes):
    def stacked(x, axis):
        copies = [x, 1.1 * x, 0.9 * x]
        return x if axis is None else jnp.stack(copies, axis)

    args = [
        jax.tree.map(lambda x, axis=axis: stacked(x, axis), arg)
        for arg, axis in zip(arguments(), axes, strict=True)
    ]
    both(lambda scan: transform(scan, axes), *args)


def test_vmap_of_vmap():
    w, h, xs = arguments()
    h, xs = jnp.stack([h, -h]), jnp.stack([xs, 2 * xs])
    both(lambda scan: jax.vmap(jax.vmap(loss_of(scan), (None, 0, None)), (None, None, 0)), w, h, xs)


def test_vmap_of_one_sequence_is_a_batch():
    """Each sequence alone, mapped over: the weight gradients are those of the batch."""
    w, h, xs = arguments()

    def make(scan):
        def loss(w):
            one = jax.vmap(lambda h, xs: scan(simple(w), h, xs), in_axes=(0, 1))
            return jnp.sin(one(h, xs)[1]).sum()

        return jax.jit(jax.grad(loss))

    both(make, w)


def test_vjp_with_parts_of_the_outputs():
    w, h, xs = arguments()

    def make(scan):
        def pull_back(h):
            (last, ys), vjp = jax.vjp(lambda h: scan(simple(w), h, xs), h)
            return vjp((last, jnp.zeros_like(ys))), vjp((jnp.zeros_like(last), ys))

        return pull_back

    both(make, h)
    both(lambda scan: jax.grad(lambda w: squared(scan)(simple(w), h, xs)), w)
    for part in (0, 1):
        both(lambda scan, part=part: jax.grad(lambda w: scan(simple(w), h, xs)[part].sum()), w)


def test_gradient_of_one_weight_alone():
    w, h, xs = arguments()
    for name in w:
        both(
            lambda scan, name=name: jax.grad(lambda v: loss_of(scan)({**w, name: v}, h, xs)),
            w[name],
        )


@pytest.mark.parametrize("outer", [recurrax.scan, jax.lax.scan])
def test_loop_in_a_loop(outer):
    w, h, xs = arguments()

    def make(scan):
        outside = jax.lax.scan if scan is jax.lax.scan else outer

        def loss(w):
            return outside(lambda h, _: (scan(simple(w), h, xs)[0], None), h, None, length=3)[0]

        return jax.jit(jax.grad(lambda w: loss(w).sum()))

    both(make, w)


@pytest.mark.parametrize(
    "forward",
    [
        lambda f, h, dh: jax.jvp(f, (h,), (dh,)),
        lambda f, h, dh: jax.jit(lambda h: jax.jvp(f, (h,), (dh,)))(h),
        lambda f, h, dh: jax.jvp(jax.jit(f), (h,), (dh,)),
        lambda f, h, dh: jax.jacfwd(f)(h),
        lambda f, h, dh: jax.hessian(lambda h: squared(f)(h))(h),
        lambda f, h, dh: jax.jacfwd(jax.jacfwd(f))(h),
        lambda f, h, dh: jax.linearize(f, h)[1](dh),
        lambda f, h, dh: jax.grad(lambda h: jax.jvp(squared(f), (h,), (dh,))[1])(h),
        lambda f, h, dh: jax.vmap(lambda d: jax.jvp(f, (h,), (d,))[1])(jnp.stack([h, dh])),
    ],
    ids=[
        *("jvp", "jit jvp", "jvp jit", "jacfwd", "hessian", "twice forward", "linearize"),
        *("backward after forward", "vmap"),
    ],
)
def test_forward_mode(forward):
    w, h, xs = arguments()

    def make(scan):
        return lambda h, dh: forward(lambda h: scan(simple(w), h, xs)[0], h, dh)

    both(make, h, jnp.cos(h))


def test_forward_mode_in_all_arguments():
    arrays = arguments()
    moved = jax.tree.map(jnp.cos, arrays)

    def make(scan):
        return lambda *args: jax.jvp(lambda w, h, xs: scan(simple(w), h, xs), args, moved)

    both(make, *arrays)


def exported(function, *args):
    """`function`, as another process would get it."""
    program = export.export(jax.jit(function))(*args)
    return export.deserialize(program.serialize()).call


def test_exported_programs_hold_no_kernel_of_this_process():
    """A gradient, inference on (batch, time, features), and sizes that stay open."""
    args = w, h, xs = arguments()
    ours = exported(gradient_of(recurrax.scan), *args)(*args)
    assert_same(ours, gradient_of(jax.lax.scan)(*args))
    last, ys = exported(lambda h, xs: scan_batch_major(simple(w), h, xs), h, xs.swapaxes(0, 1))(
        h, xs.swapaxes(0, 1)
    )
    assert_same((last, ys.swapaxes(0, 1)), jax.lax.scan(simple(w), h, xs))
    sizes = export.symbolic_shape(f"t, b, {xs.shape[2]}")
    open_xs = jax.ShapeDtypeStruct(sizes, xs.dtype)
    open_h = jax.ShapeDtypeStruct((sizes[1], h.shape[1]), h.dtype)
    ours = exported(gradient_of(recurrax.scan), w, open_h, open_xs)(*args)
    assert_same(ours, gradient_of(jax.lax.scan)(*args))
