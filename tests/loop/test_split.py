"""What moves before the loop, stays inside, moves after it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from recurrences import assert_same

import recurrax
from recurrax.loop import explain, split, step

LENGTH, BATCH, FEATURES, UNITS = 5, 3, 2, 4
XS = jnp.ones((LENGTH, BATCH, FEATURES)) / 3
H = jnp.ones((BATCH, UNITS)) / 2
W, U = jnp.ones((FEATURES, UNITS)) / 4, jnp.eye(UNITS) / 2


def parts_of(f, init=H, xs=XS):
    parts = split.split(step.trace(f, init, xs, None).body)
    return {
        name: [eqn.primitive.name for eqn in program.jaxpr.eqns]
        for name, program in (
            ("once", parts.once),
            ("before", parts.before),
            ("inside", parts.core.jaxpr),
            ("after", parts.after),
        )
    }


def holds(f, init=H, xs=XS):
    assert_same(recurrax.scan(f, init, xs), jax.lax.scan(f, init, xs))


def test_products_of_inputs_move_before_with_all_they_need():
    def f(h, x):
        return jnp.tanh(jnp.sin(x) @ W + h @ U), h

    assert parts_of(f)["before"] == ["sin", "dot_general"]
    assert parts_of(f)["inside"] == ["dot_general", "add", "tanh"]
    holds(f)


def test_the_input_product_is_one_product_with_time_and_rows_folded():
    program = jax.jit(lambda xs: recurrax.scan(lambda h, x: (h + x @ W, None), H, xs, runner="xla"))
    assert f"tensor<{LENGTH * BATCH}x{FEATURES}xf32>" in program.lower(XS).as_text()


def test_elementwise_work_on_inputs_stays():
    def f(h, x):
        return jnp.tanh(h * x[:, :1]), None

    assert parts_of(f)["before"] == []
    holds(f)


def test_look_ups_stay_and_their_indices_move():
    table, tokens = jnp.ones((7, UNITS)), jnp.ones((LENGTH, BATCH), int)

    def f(h, token):
        return h + table[token], None

    assert parts_of(f, xs=tokens)["before"] == ["lt", "add", "select_n", "broadcast_in_dim"]
    assert parts_of(f, xs=tokens)["inside"] == ["gather", "add"]
    holds(f, xs=tokens)


def test_look_ups_that_products_read_move_before():
    table, tokens = jnp.ones((7, FEATURES)), jnp.ones((LENGTH, BATCH), int)

    def f(h, token):
        return h + table[token] @ W, None

    assert parts_of(f, xs=tokens)["before"][-2:] == ["gather", "dot_general"]
    holds(f, xs=tokens)


def test_work_on_weights_is_done_once():
    def f(h, x):
        return h @ jnp.tanh(U).T, x

    assert parts_of(f)["once"] == ["tanh", "transpose"]
    assert parts_of(f)["inside"] == ["dot_general"]
    holds(f)


def test_products_that_feed_an_inner_loop_move_out_unless_the_carry_reaches_them():
    still = jnp.ones((LENGTH, BATCH, FEATURES)) / 5

    def f(h, x):
        def inner(inner_h, ms):
            return jnp.tanh(ms[0] @ W + ms[1] @ U + ms[2] @ W + inner_h @ U), None

        return recurrax.scan(inner, h, (still, jnp.stack([h] * LENGTH), still * x))[0], h

    parts = parts_of(f)
    assert [parts[name].count("loop_product") for name in parts] == [1, 1, 0, 0]
    assert parts["inside"][-1] == "fed_loop"
    holds(f)


def test_output_projections_and_what_follows_move_after():
    def f(h, x):
        h = jnp.tanh(h @ U)
        return h, jax.nn.softmax(h @ W.T)

    assert parts_of(f)["inside"] == ["dot_general", "tanh"]
    assert parts_of(f)["after"][0] == "dot_general"
    holds(f)


def test_outputs_that_skip_the_state_skip_the_loop():
    def f(h, x):
        return h, (x * 2, 3.0, jnp.arange(2), h, x)

    assert parts_of(f)["inside"] == []
    holds(f)


def test_draws_and_prints_stay():
    keys = jax.random.split(jax.random.key(0), LENGTH)

    def f(h, key):
        jax.debug.print("{}", key)
        return h, jax.random.normal(key, (BATCH, FEATURES)) @ W

    names = parts_of(f, xs=keys)
    assert {"random_bits", "debug_print"} <= set(names["inside"])
    assert names["before"] == []


@pytest.mark.parametrize(("classes", "moves"), [(8, True), (8000, False)])
def test_nothing_moves_that_would_blow_up_memory(classes, moves):
    tokens, table = jnp.ones((LENGTH, BATCH), int), jnp.ones((classes, UNITS)) / classes

    def before(h, token):
        return h + jax.nn.one_hot(token, classes) @ table, None

    assert ("dot_general" in parts_of(before, xs=tokens)["before"]) is moves
    holds(before, xs=tokens)

    def after(h, token):
        h = jnp.tanh(h)
        return h, jax.nn.logsumexp(h @ table.T, axis=-1)

    assert ("dot_general" in parts_of(after, xs=tokens)["after"]) is moves
    holds(after, xs=tokens)


def test_explain_tells_all_of_it():
    def f(h, x):
        h = jnp.tanh(x @ W + h @ U)
        return h, h @ W.T

    shapes = jax.eval_shape(lambda: (H, XS))
    told = explain(f, *shapes, runner="xla")
    assert told.length == LENGTH
    assert told.before == {"dot_general": 1}
    assert told.inside == {"dot_general": 1, "add": 1, "tanh": 1}
    assert told.after == {"dot_general": 1}
    assert told.flops_per_step == 2 * BATCH * UNITS * UNITS + 2 * BATCH * UNITS
    product = 2 * BATCH * FEATURES * UNITS
    assert told.flops == LENGTH * (told.flops_per_step + 2 * product)
    assert 2 * told.flops - told.flops_backward < 0.3 * told.flops
    # h before each step, for the recurrent weight, and the sum of the products
    assert told.kept_bytes == 4 * LENGTH * BATCH * UNITS * 2
    assert (told.gathered, told.accumulated) == (1, 0)
    assert told.runner == told.backward_runner == "xla"
    assert told.refusals["native"] == 'runner="xla" was asked for'
    text = str(told)
    assert "before, many steps at once: 1 dot_general\n" in text
    assert "1 gathered after the loop" in text
    assert f"kept for backward:          {told.kept_bytes} B\n" in text
    assert "kept for backward:          1.5 KiB\n" in str(
        dataclasses.replace(told, kept_bytes=1536)
    )


def test_explain_counts_segments():
    def f(h, x):
        return jnp.tanh(x @ W + h @ U), None

    whole = explain(f, H, XS, runner="xla")
    cut = explain(f, H, XS, runner="xla", segments=5)
    assert cut.flops_backward == whole.flops_backward + whole.flops
    assert cut.segments == 5
    assert "in 5 segments" in str(cut)


def test_explain_of_plain_lax_scan():
    told = explain(lambda h, x: (h @ U, x @ W), H, XS, runner="lax")
    assert told.inside == {"dot_general": 2}
    assert told.runner == "lax"
    assert told.refusals["xla"] == 'runner="lax" was asked for'


def test_explain_of_a_step_without_a_derivative():
    def f(h, x):
        h = jax.lax.while_loop(lambda h: h.max() > 1, lambda h: h / 2, h @ U)
        return h, x @ W

    told = explain(f, H, XS)
    assert (told.runner, told.backward_runner) == ("xla", "none")
    assert told.before == {"dot_general": 1} and told.flops > 0 == told.flops_backward
    assert "none (Reverse-mode differentiation does not work for lax.while_loop" in str(told)
    with pytest.raises(ValueError, match="cannot take this loop: `while`"):
        explain(f, H, XS, runner="native")


def test_what_auto_segments_keep_grows_with_the_square_root():
    def kept(length):
        xs = jax.ShapeDtypeStruct((length, BATCH, FEATURES), jnp.float32)
        f = lambda h, x: (jnp.tanh(x @ W + h @ U), None)  # noqa: E731
        return explain(f, H, xs, runner="xla", segments="auto").kept_bytes

    assert kept(10_000) == 10 * kept(100)
