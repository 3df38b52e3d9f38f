"""Five cells that no vendor kernel serves, written once in `jax.numpy` and once in torch's words.

Each is a step `f(weights, states, x_t) -> states`; the first state is the output. `xp` holds the
few functions that differ between JAX and torch.
"""

import math
from types import SimpleNamespace

import numpy as np


def layer_norm_lstm(xp, w, states, x):
    """LSTM with layer normalisation of both products and of the cell state (Ba et al. 2016)."""
    h, c = states
    z = _norm(xp, x @ w.kernel) * w.gain_x + _norm(xp, h @ w.recurrent) * w.gain_h + w.bias
    i, f, g, o = xp.split(z, 4)
    c = xp.sigmoid(f) * c + xp.sigmoid(i) * xp.tanh(g)
    return xp.sigmoid(o) * xp.tanh(_norm(xp, c) * w.gain_c), c


def peephole_lstm(xp, w, states, x):
    """LSTM whose gates see the cell state (Gers and Schmidhuber 2000)."""
    h, c = states
    i, f, g, o = xp.split(x @ w.kernel + h @ w.recurrent + w.bias, 4)
    i, f = xp.sigmoid(i + w.gain_c * c), xp.sigmoid(f + w.gain_f * c)
    c = f * c + i * xp.tanh(g)
    return xp.sigmoid(o + w.gain_o * c) * xp.tanh(c), c


def minimal_gated_unit(xp, w, states, x):
    """One gate (Zhou et al. 2016)."""
    (h,) = states
    xf, xg = xp.split(x @ w.kernel + w.bias, 2)
    f = xp.sigmoid(xf + h @ w.recurrent)
    g = xp.tanh(xg + (f * h) @ w.recurrent2)
    return ((1 - f) * h + f * g,)


def highway(xp, w, states, x):
    """Recurrent highway network of two layers a step (Zilly et al. 2017)."""
    (h,) = states
    for own, fed in ((w.recurrent, x @ w.kernel), (w.recurrent2, 0)):
        g, t = xp.split(h @ own + fed + w.bias, 2)
        t = xp.sigmoid(t)
        h = xp.tanh(g) * t + h * (1 - t)
    return (h,)


def multiplicative_lstm(xp, w, states, x):
    """LSTM whose recurrent weights depend on the input (Krause et al. 2016)."""
    h, c = states
    m = (x @ w.kernel_m) * (h @ w.recurrent2)
    i, f, g, o = xp.split(x @ w.kernel + m @ w.recurrent + w.bias, 4)
    c = xp.sigmoid(f) * c + xp.sigmoid(i) * xp.tanh(g)
    return xp.sigmoid(o) * xp.tanh(c), c


def _norm(xp, z):
    centred = z - xp.mean(z)
    return centred * xp.rsqrt(xp.mean(centred * centred) + 1e-5)


# cell: (function, number of states, width of the gates in units, width of `recurrent2`)
CELLS = {
    "layer-norm LSTM": (layer_norm_lstm, 2, 4, 1),
    "peephole LSTM": (peephole_lstm, 2, 4, 1),
    "minimal gated unit": (minimal_gated_unit, 1, 2, 1),
    "two-layer highway": (highway, 1, 2, 2),
    "multiplicative LSTM": (multiplicative_lstm, 2, 4, 1),
}


def weights(cell: str, features: int, units: int) -> SimpleNamespace:
    """NumPy weights of one cell, only those it uses."""
    _, _, gates, second = CELLS[cell]
    first = units if cell == "minimal gated unit" else gates * units
    rng = np.random.default_rng(0)

    def draw(*shape):
        return (rng.normal(size=shape) / math.sqrt(shape[0])).astype("float32")

    w = SimpleNamespace(
        kernel=draw(features, gates * units),
        recurrent=draw(units, first),
        bias=draw(gates * units),
    )
    if cell in ("minimal gated unit", "two-layer highway", "multiplicative LSTM"):
        w.recurrent2 = draw(units, second * units)
    if cell == "multiplicative LSTM":
        w.kernel_m = draw(features, units)
    if cell == "layer-norm LSTM":
        w.gain_x, w.gain_h, w.gain_c = (
            1 + draw(gates * units),
            1 + draw(gates * units),
            1 + draw(units),
        )
    if cell == "peephole LSTM":
        w.gain_c, w.gain_f, w.gain_o = draw(units), draw(units), draw(units)
    return w
