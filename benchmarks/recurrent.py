"""Training and inference of LSTM, GRU and SimpleRNN against other frameworks.

    python benchmarks/recurrent.py [--layers LSTM,GRU] [--shapes 0,2] [--modes train,infer]

A call of `train` is forward, backward and the gradients of all weights and of the input, from a
given cotangent of the outputs of all steps; a call of `infer` is forward alone, outputs of all
steps.
"""

import argparse
import functools
from typing import Any, NamedTuple

import harness
import numpy as np

SHAPES = [
    (32, 100, 64, 128),
    (64, 100, 256, 256),
    (1, 100, 64, 128),
    (32, 1000, 64, 128),
    (16, 200, 512, 512),
]
GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


class Case(NamedTuple):
    layer: str
    shape: tuple[int, int, int, int]  # batch, steps, features, units
    mode: str

    def data(self) -> np.ndarray:
        batch, steps, features, _ = self.shape
        return np.random.default_rng(0).standard_normal((batch, steps, features), np.float32)

    def cotangent(self) -> np.ndarray:
        batch, steps, _, units = self.shape
        return np.random.default_rng(1).standard_normal((batch, steps, units), np.float32)

    def flops(self) -> float:
        batch, steps, features, units = self.shape
        forward = 2 * batch * steps * GATES[self.layer] * units * (features + units)
        return forward * (3 if self.mode == "train" else 1)


def _jax_call(forward: Any, weights: Any, case: Case) -> Any:
    """A timed call of `forward(weights, x)`, compiled by JAX."""
    import jax
    import jax.numpy as jnp

    def train(weights, x, cotangent):
        outputs, pull = jax.vjp(forward, weights, x)
        return outputs, pull(cotangent)

    args = [weights, jnp.asarray(case.data())]
    if case.mode == "train":
        args.append(jnp.asarray(case.cotangent()))
    function = jax.jit(train if case.mode == "train" else forward)
    return lambda: jax.block_until_ready(function(*args))


def recurrax(case: Case, runner: str | None = None) -> Any:
    import recurrax as keras

    layer = getattr(keras.layers, case.layer)(case.shape[3], return_sequences=True, runner=runner)
    layer.build(case.shape[:3])
    weights = [v.value for v in layer.trainable_variables]
    return _jax_call(lambda w, x: layer.stateless_call(w, [], x)[0], weights, case)


def keras_jax(case: Case) -> Any:
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layer = getattr(keras.layers, case.layer)(case.shape[3], return_sequences=True)
    layer.build(case.shape[:3])
    weights = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]
    return _jax_call(lambda w, x: layer.stateless_call(w, state, x)[0], weights, case)


def flax_nnx(case: Case) -> Any:
    import jax.numpy as jnp
    from flax import nnx

    cell = {"LSTM": nnx.OptimizedLSTMCell, "GRU": nnx.GRUCell, "SimpleRNN": nnx.SimpleCell}
    batch, _, features, units = case.shape
    rnn = nnx.RNN(cell[case.layer](features, units, rngs=nnx.Rngs(0)))
    zeros = jnp.zeros((batch, units))
    carry = (zeros, zeros) if case.layer == "LSTM" else zeros
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)

    def forward(params: Any, x: Any) -> Any:
        return nnx.merge(graph, params, rest, copy=True)(x, initial_carry=carry)

    return _jax_call(forward, params, case)


def torch(case: Case) -> Any:
    import torch

    kind = {"SimpleRNN": "RNN"}.get(case.layer, case.layer)
    layer = getattr(torch.nn, kind)(case.shape[2], case.shape[3], batch_first=True)
    x = torch.from_numpy(case.data())
    if case.mode == "infer":

        @torch.inference_mode()
        def infer() -> None:
            layer(x)

        return infer
    x.requires_grad_()
    cotangent = torch.from_numpy(case.cotangent())

    def train() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x)[0].backward(cotangent)

    return train


def onnxruntime(case: Case) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    batch, steps, features, units = case.shape
    kind, gates = {"SimpleRNN": "RNN"}.get(case.layer, case.layer), GATES[case.layer]
    draw = np.random.default_rng(0)
    weights = {
        "W": draw.standard_normal((1, gates * units, features), np.float32) * features**-0.5,
        "R": draw.standard_normal((1, gates * units, units), np.float32) * units**-0.5,
        "B": np.zeros((1, 2 * gates * units), np.float32),
    }
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, ["X", "W", "R", "B"], ["Y"], hidden_size=units, **options)
    graph = helper.make_graph(
        [node],
        "recurrent",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, (steps, batch, features))],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, (steps, 1, batch, units))],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.ascontiguousarray(case.data().swapaxes(0, 1))
    return lambda: session.run(None, {"X": x})


CONTENDERS = {
    "recurrax": recurrax,
    "torch": torch,
    "keras-jax": keras_jax,
    "flax": flax_nnx,
    "onnxruntime": onnxruntime,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", help="of LSTM,GRU,SimpleRNN")
    parser.add_argument("--shapes", help="indices of the five shapes, such as 0,2")
    parser.add_argument("--modes", help="of train,infer")
    parser.add_argument("--contenders", help=f"of {','.join(CONTENDERS)}")
    parser.add_argument("--runner", help="the runner of recurrax's loop: native, xla or lax")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = harness.pick(list(CONTENDERS), options.contenders)
    contenders: dict[str, Any] = {name: CONTENDERS[name] for name in names}
    if options.runner and "recurrax" in contenders:
        contenders["recurrax"] = functools.partial(recurrax, runner=options.runner)
    peak = harness.peak_gflops()
    print(f"{harness.machine()}; matrix-product peak {peak:.0f} GFLOP/s", flush=True)
    for index in harness.pick([str(i) for i in range(len(SHAPES))], options.shapes):
        for layer in harness.pick(list(GATES), options.layers):
            for mode in harness.pick(["train", "infer"], options.modes):
                case = Case(layer, SHAPES[int(index)], mode)
                entered = {
                    n: c for n, c in contenders.items() if n != "onnxruntime" or mode == "infer"
                }
                results = harness.compare(entered, case, rounds=options.rounds)
                ours = results.get("recurrax")
                share = (
                    f" | {case.flops() / ours.median / 1e6 / peak:.0%} of peak"
                    if isinstance(ours, harness.Timing)
                    else ""
                )
                head = f"{layer} {case.shape} {mode}"
                print(f"{head}: {harness.row(results, 'recurrax')}{share}", flush=True)


if __name__ == "__main__":
    main()
