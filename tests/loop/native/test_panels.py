"""Weights in panels, as they are and transposed, of sizes that leave something over."""

import jax
import numpy as np
import pytest
from against_xla import body_of, draw, run_native


@pytest.mark.parametrize("inputs, outputs", [(16, 16), (17, 33), (40, 24), (5, 70), (129, 65)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_transposed_weight_gives_the_product_of_its_transpose(inputs, outputs, dtype):
    with jax.enable_x64(dtype == np.float64):
        w, x = draw(0, outputs, inputs, dtype=dtype), draw(1, 3, 4, inputs, dtype=dtype)
        body = body_of(lambda c, s, x: ((x[0] @ c[0].T,), ()), (w,), (x[0] @ w.T,), (x,))
        ((last,), _) = run_native(body, [w], [x[0] @ w.T], [x])
        x64, w64 = np.asarray(x[-1], np.float64), np.asarray(w, np.float64)
        bound = 4 * np.finfo(dtype).eps * (np.abs(x64) @ np.abs(w64).T)
        assert (np.abs(last - x64 @ w64.T) <= bound).all()
