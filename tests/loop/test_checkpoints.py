"""`jax.checkpoint` on the step and around the loop, with policies and names.

Values are held against `jax.lax.scan`; what loops write tells what is kept.
"""

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name
from recurrences import BATCH, FEATURES, LENGTH, UNITS, arguments, assert_same

import recurrax
from recurrax.loop import compat

POLICIES = jax.checkpoint_policies


def loss_of(scan, on_step=lambda f: f, around=lambda f: f, named=True, between=None):
    """A loss of a plain layer; its product has a name, and is kept under it where asked."""

    def loss(w, h, xs):
        def step(h, x):
            z = x @ w["kernel"] + h @ w["recurrent"] + w["bias"]
            z = checkpoint_name(z, "z") if named else z
            h = jnp.tanh(z)
            if between is not None:
                h = between(h)
            return h, jnp.sin(h) @ w["project"]

        last, ys = scan(on_step(step), h, xs)
        return jnp.square(last).sum() + jnp.sin(ys).sum()

    return around(loss)


def gradient(scan, **how):
    return jax.jit(jax.value_and_grad(loss_of(scan, **how), argnums=(0, 1, 2)))


def stacks_written(function, *args):
    """The shapes of one step of what each loop of ours writes, in order."""
    found = []

    def look(jaxpr):
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            if name in ("loop", "fed_loop", "loop_and_products"):
                ys = eqn.outvars[eqn.params["num_carry"] :]
                found.append(sorted(v.aval.shape[1:] for v in ys))
            for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns")):
                if hasattr(value, "eqns") and name not in ("loop", "fed_loop"):
                    look(getattr(value, "jaxpr", value))

    look(program_of(function, *args))
    return found


def program_of(function, *args):
    """What is compiled: without the work that nobody needs."""
    closed = jax.make_jaxpr(function)(*args)
    return compat.dce(closed.jaxpr, [True] * len(closed.jaxpr.outvars), True)[0]


H, Z, Y = (BATCH, UNITS), (BATCH, UNITS), (BATCH, 2)
STEP_POLICIES = {
    "none": (None, [H]),
    "nothing": (POLICIES.nothing_saveable, [H]),
    "dots": (POLICIES.dots_saveable, [H, Z, Z, Y]),
    "names": (POLICIES.save_only_these_names("z"), [H, Z]),
    "other names": (POLICIES.save_only_these_names("q"), [H]),
    "everything": (POLICIES.everything_saveable, None),
}


@pytest.mark.parametrize("policy", STEP_POLICIES)
def test_a_checkpointed_step_keeps_what_its_policy_allows(policy):
    policy, kept = STEP_POLICIES[policy]
    how = {"on_step": lambda f: jax.checkpoint(f, policy=policy)}
    args = arguments()
    assert_same(gradient(recurrax.scan, **how)(*args), gradient(jax.lax.scan)(*args))
    forward = stacks_written(gradient(recurrax.scan, **how), *args)[0]
    if kept is not None:  # and what the step returns
        assert len(forward) <= len([Y, *kept])
        for shape in set(forward):
            assert forward.count(shape) <= [Y, *kept].count(shape)


def test_a_checkpointed_step_is_native():
    w, h, xs = arguments()

    def step(h, x):
        return jnp.tanh(x @ w["kernel"] + h @ w["recurrent"] + w["bias"]), None

    told = recurrax.explain(jax.checkpoint(step), h, xs)
    assert (told.runner, told.backward_runner) == ("native", "native")
    assert told.kept_bytes == LENGTH * BATCH * (UNITS + FEATURES) * 4
    assert told.kept_bytes < recurrax.explain(step, h, xs).kept_bytes


@pytest.mark.parametrize("named", ["z", "q"])
def test_names_in_the_loop_are_heeded_by_a_policy_around_it(named):
    around = lambda f: jax.checkpoint(f, policy=POLICIES.save_only_these_names(named))  # noqa: E731
    args = arguments()
    assert_same(gradient(recurrax.scan, around=around)(*args), gradient(jax.lax.scan)(*args))
    first, *_ = stacks_written(gradient(recurrax.scan, around=around), *args)
    assert first.count(Z) == 1 + (named == "z")  # one is for the product after the loop
    products = dots_of_loops(gradient(recurrax.scan, around=around), *args)
    # The products that made what has the name are not made again.
    assert products[1] < products[0] if named == "z" else products[1] == products[0]


def dots_of_loops(function, *args):
    """How many products each loop of ours makes at a step."""
    found = []

    def look(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name in ("loop", "fed_loop", "loop_and_products"):
                body = eqn.params["jaxpr"]
                found.append(sum(e.primitive.name == "dot_general" for e in body.eqns))
                continue
            for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns")):
                if hasattr(value, "eqns"):
                    look(getattr(value, "jaxpr", value))

    look(program_of(function, *args))
    return found


@pytest.mark.parametrize(
    "policy",
    [
        None,
        POLICIES.dots_saveable,
        POLICIES.save_anything_except_these_names("z"),
        POLICIES.save_any_names_but_these("q"),
        POLICIES.everything_saveable,
    ],
    ids=["none", "dots", "anything but", "any name but", "everything"],
)
@pytest.mark.parametrize("runner", ["native", "xla"])
def test_policies_around_the_loop(policy, runner):
    def ours(*args):
        return recurrax.scan(*args, runner=runner)

    how = {"around": lambda f: jax.checkpoint(f, policy=policy)}
    args = arguments()
    assert_same(gradient(ours, **how)(*args), gradient(jax.lax.scan, **how)(*args))


def test_checkpoints_in_checkpoints_and_parts_of_the_step():
    args = arguments()
    around = lambda f: jax.checkpoint(f, policy=POLICIES.save_only_these_names("z"))  # noqa: E731
    part = jax.checkpoint(lambda h: jnp.cos(h) * h @ jnp.eye(UNITS))
    for how in (
        {"between": part},
        {"between": part, "on_step": jax.checkpoint},
        {"on_step": jax.checkpoint, "around": around},
        {"on_step": around, "around": jax.checkpoint},
    ):
        ours, theirs = gradient(recurrax.scan, **how), gradient(jax.lax.scan, **how)
        assert_same(ours(*args), theirs(*args))


@pytest.mark.parametrize(
    "how",
    [
        {"on_step": jax.checkpoint},
        {"on_step": lambda f: jax.checkpoint(f, policy=POLICIES.save_only_these_names("z"))},
        {"around": lambda f: jax.checkpoint(f, policy=POLICIES.save_only_these_names("z"))},
    ],
    ids=["step", "step with a name", "loop with a name"],
)
def test_further_transformations(how):
    w, h, xs = arguments()

    def second(scan):
        of = loss_of(scan, **how)
        return jax.grad(lambda h: jnp.square(jax.grad(of, argnums=1)(w, h, xs)).sum())(h)

    def mapped(scan):
        of = jax.grad(loss_of(scan, **how), argnums=(0, 1))
        return jax.vmap(of, (None, 0, None))(w, jnp.stack([h, -h]), xs)

    for make in (second, mapped):
        assert_same(make(recurrax.scan), make(jax.lax.scan), 1e-4)
