"""One step of an LSTM at batch 1, state carried from call to call, input and output on the host.

onnxruntime runs by I/O binding, its fastest interface: two sets of states in turn, input and output
copied from and to NumPy. It and torch get one thread, with which both are faster here.

python benchmarks/streaming.py [--units 128] [--features 64]
"""

import argparse
import itertools
from typing import Any

import harness
import numpy as np

CALLS = 200


def _input(features: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, features), np.float32)


def _repeated(step: Any) -> Any:
    def calls() -> None:
        for _ in range(CALLS):
            step()

    return calls


def recurrax(case: tuple[int, int]) -> Any:
    features, units = case
    import recurrax as keras

    model = keras.Sequential([keras.Input((None, features)), keras.layers.LSTM(units)])
    stream, x = model.stream(), _input(features)
    return _repeated(lambda: stream.step(x))


def jax_jit(case: tuple[int, int]) -> Any:
    features, units = case
    import jax

    import recurrax as keras

    cell, x = keras.layers.LSTMCell(units), _input(features)
    cell.build(x.shape)
    weights = [v.value for v in cell.trainable_variables]
    compiled = jax.jit(lambda w, x, states: cell.stateless_call(w, [], x, states)[0])
    state = cell.get_initial_state(batch_size=1)

    def step() -> None:
        nonlocal state
        y, state = compiled(weights, x, state)
        np.asarray(y)

    return _repeated(step)


def torch(case: tuple[int, int]) -> Any:
    features, units = case
    import torch

    torch.set_num_threads(1)
    cell, x = torch.nn.LSTMCell(features, units), torch.from_numpy(_input(features))
    state = torch.zeros(1, units), torch.zeros(1, units)

    def step() -> None:
        nonlocal state
        state = cell(x, state)

    return torch.inference_mode()(_repeated(step))


def onnxruntime(case: tuple[int, int]) -> Any:
    features, units = case
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    weights = {
        "W": draw.standard_normal((1, 4 * units, features), np.float32) * features**-0.5,
        "R": draw.standard_normal((1, 4 * units, units), np.float32) * units**-0.5,
        "B": np.zeros((1, 8 * units), np.float32),
    }
    state = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 1, units)) for n in "hcHC"]
    node = helper.make_node(
        "LSTM", ["X", "W", "R", "B", "", "h", "c"], ["", "H", "C"], hidden_size=units
    )
    graph = helper.make_graph(
        [node],
        "step",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, (1, 1, features)), *state[:2]],
        state[2:],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def value(array: np.ndarray) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)

    x = _input(features)[None]
    given = value(x)
    states = [{n: value(np.zeros((1, 1, units), np.float32)) for n in "hc"} for _ in range(2)]
    bindings = []
    for before, after in (states, states[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input("X", given)
        for name in "hc":
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(name.upper(), after[name])
        bindings.append((binding, after["h"]))
    turns = itertools.cycle(bindings)

    def step() -> None:
        binding, output = next(turns)
        given.update_inplace(x)
        session.run_with_iobinding(binding)
        output.numpy()

    return _repeated(step)


CONTENDERS = {
    "recurrax": recurrax,
    "jax.jit": jax_jit,
    "torch": torch,
    "onnxruntime": onnxruntime,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    case = (options.features, options.units)
    results = harness.compare(CONTENDERS, case, options.rounds, seconds=0.3)
    print(harness.machine())
    ours = results["recurrax"]
    for name, timing in results.items():
        if isinstance(timing, str) or isinstance(ours, str):
            print(f"{name}: {timing}")
            continue
        micros = timing.median * 1e3 / CALLS
        print(
            f"{name}: {micros:.1f} µs a step ±{timing.spread:.0%}, "
            f"{timing.median / ours.median:.2f} × recurrax"
        )


if __name__ == "__main__":
    main()
