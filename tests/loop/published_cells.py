"""Recurrent cells from the literature, each as one would write it down: plain `jax.numpy`.

A cell is `step(w, carry, x) -> (carry, y)`; `w(name, *shape)` is a weight of that shape. `CELLS`
has each with the shapes of its carry; `named_weights.py` runs them.
"""

import jax
import jax.numpy as jnp
import numpy as np

BATCH, FEATURES, UNITS, SLOTS = 3, 4, 6, 5
sigmoid, tanh, softmax = jax.nn.sigmoid, jnp.tanh, jax.nn.softmax


def dense(w, name, x, units):
    return x @ w(name, x.shape[-1], units) + w(f"{name}_bias", units)


def indrnn(w, h, x):
    """Li et al. 2018: every unit sees only its own past."""
    h = jax.nn.relu(dense(w, "in", x, UNITS) + w("u", UNITS) * h)
    return h, h


def sru(w, c, x):
    """Lei et al. 2018: the state enters gates elementwise alone."""
    z, f, r, s = jnp.split(dense(w, "in", x, 4 * UNITS), 4, -1)
    f, r = sigmoid(f + w("vf", UNITS) * c), sigmoid(r + w("vr", UNITS) * c)
    c = f * c + (1 - f) * z
    return c, r * c + (1 - r) * s


def qrnn(w, carry, x):
    """Bradbury et al. 2017: a convolution of width two over time, fo-pooling."""
    c, before = carry
    z, f, o = jnp.split(jnp.concatenate([before, x], -1) @ w("conv", 2 * FEATURES, 3 * UNITS), 3, 1)
    c = sigmoid(f) * c + (1 - sigmoid(f)) * tanh(z)
    return (c, x), sigmoid(o) * c


def minimal_rnn(w, h, x):
    """Chen 2017."""
    z = tanh(dense(w, "in", x, UNITS))
    u = sigmoid(h @ w("u", UNITS, UNITS) + dense(w, "v", z, UNITS))
    h = u * h + (1 - u) * z
    return h, h


def ugrnn(w, h, x):
    """Collins et al. 2017."""
    c, g = jnp.split(dense(w, "all", jnp.concatenate([x, h], 1), 2 * UNITS), 2, axis=1)
    h = sigmoid(g) * h + (1 - sigmoid(g)) * tanh(c)
    return h, h


def nas(w, carry, x):
    """Zoph and Le 2017: the cell that was found by search."""
    c, h = carry
    a = (x @ w("in", FEATURES, 8 * UNITS)).reshape(-1, 8, UNITS)
    b = (h @ w("rec", UNITS, 8 * UNITS)).reshape(-1, 8, UNITS)
    one = [sigmoid(a[:, 0] + b[:, 0]), jax.nn.relu(a[:, 1] + b[:, 1]), sigmoid(a[:, 2] + b[:, 2])]
    one += [jax.nn.relu(a[:, 3] * b[:, 3]), tanh(a[:, 4] + b[:, 4]), sigmoid(a[:, 5] + b[:, 5])]
    one += [tanh(a[:, 6] + b[:, 6]), sigmoid(a[:, 7] + b[:, 7])]
    two = [tanh(one[0] * one[1]), tanh(one[2] + one[3]), tanh(one[4] * one[5])]
    two.append(sigmoid(one[6] + one[7]))
    c = tanh(two[0] + c) * two[1]
    h = tanh(c * tanh(two[2] + two[3]))
    return (c, h), h


def cornn(w, carry, x):
    """Rusch and Mishra 2021: coupled oscillators."""
    y, z = carry
    z = z + 0.1 * (tanh(dense(w, "all", jnp.concatenate([y, z, x], -1), UNITS)) - 2.7 * y - 4.7 * z)
    y = y + 0.1 * z
    return (y, z), y


def lem(w, carry, x):
    """Rusch et al. 2022: long expressive memory."""
    y, z = carry
    a = y @ w("rec", UNITS, 3 * UNITS) + dense(w, "in", x, 4 * UNITS)[:, : 3 * UNITS]
    t1, t2, zz = 0.5 * sigmoid(a[:, :UNITS]), 0.5 * sigmoid(a[:, UNITS : 2 * UNITS]), a[:, -UNITS:]
    z = (1 - t1) * z + t1 * tanh(zz)
    y = (1 - t2) * y + t2 * tanh(z @ w("z", UNITS, UNITS) + x @ w("x", FEATURES, UNITS))
    return (y, z), y


def lmu(w, carry, x):
    """Voelker et al. 2019: a memory of Legendre polynomials."""
    h, m = carry
    q = np.arange(SLOTS, dtype=np.float32)
    r = (2 * q + 1)[:, None] / 20
    i, j = np.meshgrid(q, q, indexing="ij")
    a = np.where(i < j, -1, (-1.0) ** (i - j + 1)).astype(np.float32) * r
    b = ((-1.0) ** q[:, None]).astype(np.float32) * r
    u = x @ w("ex", FEATURES, 1) + h @ w("eh", UNITS, 1) + m @ w("em", SLOTS, 1)
    m = m + m @ a.T.astype(x.dtype) + u @ b.T.astype(x.dtype)
    h = tanh(x @ w("wx", FEATURES, UNITS) + h @ w("wh", UNITS, UNITS) + m @ w("wm", SLOTS, UNITS))
    return (h, m), h


def antisymmetric(w, h, x):
    """Chang et al. 2019."""
    v = w("w", UNITS, UNITS)
    skew = jnp.triu(v, 1) - jnp.triu(v, 1).T - 0.01 * jnp.eye(UNITS, dtype=x.dtype)
    z = h @ skew.T
    a = z + dense(w, "x", x, UNITS)
    h = h + 0.1 * sigmoid(z + dense(w, "g", x, UNITS)) * tanh(a)
    return h, h


def fast_grnn(w, h, x):
    """Kusupati et al. 2018: weights of low rank, one matrix for gate and state."""
    z = x @ (w("w1", FEATURES, 2) @ w("w2", 2, UNITS)) + (h @ w("u1", UNITS, 2)) @ w("u2", 2, UNITS)
    gate = sigmoid(z + w("bz", UNITS))
    zeta, nu = sigmoid(w("zeta")), sigmoid(w("nu"))
    h = (zeta * (1 - gate) + nu) * tanh(z + w("bh", UNITS)) + gate * h
    return h, h


def phased_lstm(w, carry, x):
    """Neil et al. 2016: a gate that opens by the clock; the first feature is the time."""
    (h, c), t = carry, jnp.abs(x[:, :1]) * 3
    i, f, g, o = jnp.split(dense(w, "in", x, 4 * UNITS) + h @ w("rec", UNITS, 4 * UNITS), 4, -1)
    new_c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    new_h = sigmoid(o) * tanh(new_c)
    period = jnp.exp(w("period", UNITS))
    phase = jnp.mod(t - w("shift", UNITS), period) / period
    k = jnp.where(phase < 0.05, 20 * phase, jnp.where(phase < 0.1, 2 - 20 * phase, 0.01 * phase))
    h, c = k * new_h + (1 - k) * h, k * new_c + (1 - k) * c
    return (h, c), h


def clockwork(w, carry, x):
    """Koutník et al. 2014: groups of units that are updated every 1, 2, 4 steps."""
    h, t = carry
    new = tanh(dense(w, "in", x, UNITS) + h @ jnp.triu(w("rec", UNITS, UNITS)))
    active = t % jnp.repeat(jnp.array([1, 2, 4]), UNITS // 3) == 0
    h = jnp.where(active, new, h)
    return (h, t + 1), h


def ode_rnn(w, h, x):
    """Rubanova et al. 2019: two Runge–Kutta steps between two inputs, in a loop of their own."""

    def f(h):
        return dense(w, "f2", tanh(dense(w, "f1", h, UNITS)), UNITS)

    def advance(_, h):
        k1 = f(h)
        k2 = f(h + 0.1 * k1)
        k3 = f(h + 0.1 * k2)
        return h + (k1 + 2 * k2 + 2 * k3 + f(h + 0.2 * k3)) / 30

    f(h)  # so that the weights are known before the inner loop is traced
    h = jax.lax.fori_loop(0, 2, advance, h)
    h = tanh(h + dense(w, "in", x, UNITS))
    return h, h


def lru(w, carry, x):
    """Orvieto et al. 2023: a diagonal complex recurrence, as two real ones."""
    re, im = carry
    size, angle = jnp.exp(-jnp.exp(w("nu", UNITS))), jnp.exp(w("theta", UNITS))
    a, b = size * jnp.cos(angle), size * jnp.sin(angle)
    gain = jnp.sqrt(1 - size**2)
    re, im = (
        a * re - b * im + gain * (x @ w("bre", FEATURES, UNITS)),
        a * im + b * re + gain * (x @ w("bim", FEATURES, UNITS)),
    )
    y = re @ w("cre", UNITS, FEATURES) - im @ w("cim", UNITS, FEATURES) + w("d", FEATURES) * x
    return (re, im), jax.nn.gelu(y)


def slstm(w, carry, x):
    """Beck et al. 2024: exponential gates with a stabiliser, heads of their own."""
    c, n, m, h = carry
    rec = jnp.einsum(
        "bhd,hde->bhe", h.reshape(-1, 2, UNITS // 2), w("rec", 2, UNITS // 2, 2 * UNITS)
    )
    z = dense(w, "in", x, 4 * UNITS).reshape(-1, 2, 2 * UNITS) + rec
    i, f, g, o = (part.reshape(-1, UNITS) for part in jnp.split(z, 4, -1))
    f = jax.nn.log_sigmoid(f)
    top = jnp.maximum(f + m, i)
    i, f = jnp.exp(i - top), jnp.exp(f + m - top)
    c, n = f * c + i * tanh(g), f * n + i
    h = sigmoid(o) * c / jnp.maximum(jnp.abs(n), 1)
    return (c, n, top, h), h


def mlstm(w, carry, x):
    """Beck et al. 2024: a matrix memory."""
    c, n, m = carry
    q, k, v = jnp.split(dense(w, "qkv", x, 3 * UNITS), 3, -1)
    i, f = x @ w("i", FEATURES), jax.nn.log_sigmoid(x @ w("f", FEATURES) + 1)
    top = jnp.maximum(f + m, i)
    i, f = jnp.exp(i - top)[:, None], jnp.exp(f + m - top)[:, None]
    c = f[..., None] * c + i[..., None] * (v[:, :, None] * k[:, None, :])
    n = f * n + i * k
    down = jnp.maximum(jnp.abs((n * q).sum(-1, keepdims=True)), 1)
    return (c, n, top), jnp.einsum("bij,bj->bi", c, q) / down


def mogrifier_lstm(w, carry, x):
    """Melis et al. 2020: input and state gate each other before the cell."""
    h, c = carry
    x = 2 * sigmoid(h @ w("q1", UNITS, FEATURES)) * x
    h = 2 * sigmoid(x @ w("r1", FEATURES, UNITS)) * h
    x = 2 * sigmoid(h @ w("q2", UNITS, FEATURES)) * x
    i, f, g, o = jnp.split(dense(w, "in", jnp.concatenate([x, h], 1), 4 * UNITS), 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return (h, c), h


def turing_machine(w, carry, x):
    """Graves et al. 2014: content addressing, a shift, sharpening, erase and add."""
    h, memory, at = carry
    read = jnp.einsum("bs,bsf->bf", at, memory)
    h = tanh(dense(w, "in", jnp.concatenate([x, read], -1), UNITS) + h @ w("rec", UNITS, UNITS))
    key = tanh(dense(w, "key", h, FEATURES))
    size = jnp.linalg.norm(memory, axis=-1) * jnp.linalg.norm(key, axis=-1, keepdims=True)
    alike = jnp.einsum("bsf,bf->bs", memory, key) / (size + 1e-2)
    content = softmax(jax.nn.softplus(dense(w, "beta", h, 1)) * alike)
    gate = sigmoid(dense(w, "gate", h, 1))
    at = gate * content + (1 - gate) * at
    shift = softmax(dense(w, "shift", h, 3))
    at = sum(shift[:, k : k + 1] * jnp.roll(at, k - 1, axis=1) for k in range(3))
    at = at ** (1 + jax.nn.softplus(dense(w, "gamma", h, 1)))
    at = at / (at.sum(-1, keepdims=True) + 1e-2)
    erase, add = sigmoid(dense(w, "erase", h, FEATURES)), tanh(dense(w, "add", h, FEATURES))
    memory = memory * (1 - at[..., None] * erase[:, None]) + at[..., None] * add[:, None]
    return (h, memory, at), jnp.concatenate([h, read], -1)


def dnc_usage(w, carry, x):
    """Graves et al. 2016: where to write by usage, with precedence and temporal links."""
    usage, precedence, link = carry
    gate = sigmoid(dense(w, "gate", x, SLOTS))
    free = 1 - usage
    allocation = free * jnp.cumprod(usage, axis=-1)
    write = gate * softmax(allocation + dense(w, "where", x, SLOTS))
    usage = usage + write - usage * write
    both = 1 - write[:, :, None] - write[:, None, :]
    link = both * link + write[:, :, None] * precedence[:, None, :]
    link = link * (1 - jnp.eye(SLOTS, dtype=x.dtype))
    precedence = (1 - write.sum(-1, keepdims=True)) * precedence + write
    return (usage, precedence, link), jnp.matmul(link, write[..., None])[..., 0]


def attention_unit(w, carry, x):
    """Zhong et al. 2018: a GRU with attention over its features inside."""
    h = carry
    both = jnp.concatenate([x, h], -1)
    z, r = jnp.split(sigmoid(dense(w, "gates", both, 2 * UNITS)), 2, -1)
    c = tanh(dense(w, "c", jnp.concatenate([x, r * h], -1), UNITS))
    a = softmax(dense(w, "a", both, FEATURES + UNITS), axis=-1) * both
    hat = jax.nn.relu(dense(w, "attended", a, UNITS))
    h = (1 - z) * h + z * (c + hat) / 2
    return h, h


def exponential(w, h, x):
    """Lezcano-Casado and Martínez-Rubio 2019: a recurrent matrix exp(A), A skew."""
    a = w("a", UNITS, UNITS)
    kernel = jax.scipy.linalg.expm(jnp.triu(a, 1) - jnp.triu(a, 1).T)
    z = h @ kernel + x @ w("in", FEATURES, UNITS)
    h = jnp.sign(z) * jax.nn.relu(jnp.abs(z) + w("b", UNITS))
    return h, h


def selective(w, h, x):
    """Gu and Dao 2023: a state space whose step depends on the input."""
    delta = jax.nn.softplus(dense(w, "dt", x, FEATURES))
    b, c = jnp.split(x @ w("bc", FEATURES, 2 * SLOTS), 2, -1)
    a = -jnp.exp(w("a", FEATURES, SLOTS))
    h = jnp.exp(delta[..., None] * a) * h + (delta * x)[..., None] * b[:, None, :]
    return h, jnp.einsum("bfs,bs->bf", h, c) + w("d", FEATURES) * x


def hopfield(w, h, x):
    """Ramsauer et al. 2021: one update towards stored patterns."""
    h = h + dense(w, "in", x, UNITS)
    patterns = w("patterns", SLOTS, UNITS)
    h = softmax(2.0 * h @ patterns.T, axis=-1) @ patterns
    return h, h


def janet(w, carry, x):
    """Van der Westhuizen and Lasenby 2018: a forget gate alone."""
    s, c = jnp.split(dense(w, "in", x, 2 * UNITS) + carry @ w("rec", UNITS, 2 * UNITS), 2, -1)
    h = sigmoid(s) * carry + (1 - sigmoid(s - 1)) * tanh(c)
    return h, h


def peephole(w, carry, x):
    """Gers and Schmidhuber 2000, Sak et al. 2014: peepholes and a projection."""
    r, c = carry
    i, f, g, o = jnp.split(dense(w, "in", x, 4 * UNITS) + r @ w("rec", FEATURES, 4 * UNITS), 4, -1)
    i, f = sigmoid(i + w("pi", UNITS) * c), sigmoid(f + w("pf", UNITS) * c)
    c = jnp.clip(f * c + i * tanh(g), -3, 3)
    r = (sigmoid(o + w("po", UNITS) * c) * tanh(c)) @ w("project", UNITS, FEATURES)
    return (r, c), r


def highway(w, h, x):
    """Zilly et al. 2017: several layers of depth in a step."""
    for k in range(3):
        z = dense(w, f"rec{k}", h, 2 * UNITS) + (x @ w("in", FEATURES, 2 * UNITS) if k == 0 else 0)
        t = sigmoid(z[:, UNITS:])
        h = tanh(z[:, :UNITS]) * t + h * (1 - t)
    return h, h


def multiplicative_lstm(w, carry, x):
    """Krause et al. 2016."""
    h, c = carry
    m = (x @ w("mx", FEATURES, UNITS)) * (h @ w("mh", UNITS, UNITS))
    i, f, g, o = jnp.split(dense(w, "in", x, 4 * UNITS) + m @ w("rec", UNITS, 4 * UNITS), 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * g
    h = tanh(c) * sigmoid(o)
    return (h, c), h


def ordered_neurons(w, carry, x):
    """Shen et al. 2019: master gates are running sums of a softmax."""
    h, c = carry
    z = dense(w, "in", x, 4 * UNITS + 6) + h @ w("rec", UNITS, 4 * UNITS + 6)
    i, f, g, o = jnp.split(z[:, 6:], 4, -1)
    forget = jnp.repeat(jnp.cumsum(softmax(z[:, :3]), axis=-1), UNITS // 3, axis=-1)
    write = jnp.repeat(1 - jnp.cumsum(softmax(z[:, 3:6]), axis=-1), UNITS // 3, axis=-1)
    both = forget * write
    f = sigmoid(f) * both + forget - both
    c = f * c + (sigmoid(i) * both + write - both) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return (h, c), h


def delta_net(w, s, x):
    """Schlag et al. 2021: fast weights, written by the delta rule; two heads."""
    q, k, v = (a.reshape(-1, 2, 3) for a in jnp.split(dense(w, "qkv", x, 3 * UNITS), 3, -1))
    k = k / (jnp.linalg.norm(k, axis=-1, keepdims=True) + 1e-2)
    beta = sigmoid(x @ w("beta", FEATURES, 2))[..., None]
    old = jnp.einsum("bhij,bhj->bhi", s, k)
    s = s + jnp.einsum("bhi,bhj->bhij", beta * (v - old), k)
    return s, jnp.einsum("bhij,bhj->bhi", s, jax.nn.elu(q) + 1).reshape(-1, UNITS)


def rwkv(w, carry, x):
    """Peng et al. 2023: a decaying average of values, by keys, kept in logarithms."""
    a, b, top, before = carry
    mixed = [x * w(f"mix{n}", FEATURES) + before * (1 - w(f"mix{n}", FEATURES)) for n in "rkv"]
    r, k, v = (z @ w(n, FEATURES, UNITS) for n, z in zip("rkv", mixed, strict=True))
    now = jnp.maximum(top, w("u", UNITS) + k)
    e, f = jnp.exp(top - now), jnp.exp(w("u", UNITS) + k - now)
    y = sigmoid(r) * (e * a + f * v) / (e * b + f)
    decayed = top - jnp.exp(w("decay", UNITS))
    new = jnp.maximum(decayed, k)
    e, f = jnp.exp(decayed - new), jnp.exp(k - new)
    return (e * a + f * v, e * b + f, new, x), y @ w("out", UNITS, FEATURES)


def gru_d(w, carry, x):
    """Che et al. 2018: missing inputs decay towards their mean."""
    h, last, since = carry
    seen = x > 0
    since = jnp.where(seen, 1.0, since + 1).astype(x.dtype)
    decay = jnp.exp(-jax.nn.relu(since * w("dx", FEATURES)))
    last = jnp.where(seen, x, last)
    x = jnp.where(seen, x, decay * last + (1 - decay) * w("mean", FEATURES))
    h = jnp.exp(-jax.nn.relu(dense(w, "dh", since, UNITS))) * h
    z, r = jnp.split(
        sigmoid(dense(w, "g", jnp.concatenate([x, h, 1.0 * seen], 1), 2 * UNITS)), 2, 1
    )
    h = (1 - z) * h + z * tanh(dense(w, "c", jnp.concatenate([x, r * h], 1), UNITS))
    return (h, last, since), h


def liquid(w, h, x):
    """Hasani et al. 2021: six fused solver steps of a liquid time constant."""
    sensed = w("gain", FEATURES, UNITS) * sigmoid((x[:, :, None] - w("mu", FEATURES, UNITS)) * 3)
    for _ in range(6):
        g = w("rec", UNITS, UNITS) * sigmoid((h[:, :, None] - w("mu2", UNITS, UNITS)) * 2)
        up = g.sum(1) + sensed.sum(1)
        h = (4 * h + up) / (4 + jnp.abs(g).sum(1) + jnp.abs(sensed).sum(1))
    return h, h


def trained_memory(w, s, x):
    """Sun et al. 2024: the state is a model, trained by a gradient step inside the step."""
    k, v, q = jnp.split(dense(w, "kvq", x, 3 * SLOTS), 3, -1)

    def loss(s):
        return 0.5 * jnp.square(jnp.einsum("bij,bj->bi", s, k) - v).sum()

    s = s - 0.2 * jax.grad(loss)(s)
    return s, jnp.einsum("bij,bj->bi", s, q)


@jax.custom_jvp
def spike(v):
    return (v > 0).astype(v.dtype)


@spike.defjvp
def _spike_jvp(primals, tangents):
    (v,), (dv,) = primals, tangents
    return spike(v), dv / (1 + 10 * jnp.abs(v)) ** 2


def spiking(w, carry, x):
    """Zenke and Ganguli 2018: leaky integrate-and-fire units with a surrogate gradient."""
    v, s = carry
    v = 0.9 * v * (1 - jax.lax.stop_gradient(s)) + dense(w, "in", x, UNITS)
    s = spike(v + s @ w("rec", UNITS, UNITS) - 1)
    return (v, s), s


def stack_rnn(w, carry, x):
    """Joulin and Mikolov 2015: a stack that is pushed and popped softly."""
    h, stack = carry
    h = sigmoid(dense(w, "in", jnp.concatenate([x, h, stack[:, 0]], -1), UNITS))
    push, pop, stay = jnp.split(softmax(dense(w, "action", h, 3))[..., None], 3, axis=1)
    top = sigmoid(dense(w, "top", h, FEATURES))[:, None]
    pushed = jnp.concatenate([top, stack[:, :-1]], axis=1)
    popped = jnp.concatenate([stack[:, 1:], jnp.zeros_like(stack[:, :1])], axis=1)
    return (h, push * pushed + pop * popped + stay * stack), h


def window_attention(w, carry, x):
    """Attention over the last few states, kept in a ring that an integer points into."""
    h, keys, t = carry
    keys = jax.lax.dynamic_update_slice(keys, h[:, None], (0, t % SLOTS, 0))
    scores = jnp.einsum("bd,bsd->bs", dense(w, "q", x, UNITS), keys) / UNITS**0.5
    scores = jnp.where(jnp.arange(SLOTS) <= t, scores, -1e9)
    h = tanh(jnp.einsum("bs,bsd->bd", softmax(scores), keys) + dense(w, "in", x, UNITS))
    return (h, keys, t + 1), h


def kalman(w, carry, x):
    """A Kalman filter with one observed number, its covariance in the carry."""
    mean, cov = carry
    a, c = w("a", SLOTS, SLOTS), w("c", SLOTS)
    mean, cov = mean @ a.T, a @ cov @ a.T + 0.1 * jnp.eye(SLOTS, dtype=x.dtype)
    gain = (cov @ c) / ((cov @ c) @ c + 0.5)[:, None]
    mean = mean + gain * (x[:, :1] - (mean @ c)[:, None])
    cov = cov - gain[:, :, None] * (cov @ c)[:, None, :]
    return (mean, cov), mean


def convolutional(w, h, x):
    """Shi et al. 2015, along one axis: gates are convolutions over the features."""

    def conv(name, v):
        kernel = w(name, 3, v.shape[-1], 4)
        return jax.lax.conv_general_dilated(
            v, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )

    i, g = jnp.split(conv("in", x.reshape(-1, FEATURES, 1)) + conv("rec", h), 2, -1)
    h = sigmoid(i) * h + (1 - sigmoid(i)) * tanh(g)
    return h, h.reshape(-1, 2 * FEATURES)


def greedy_decoder(w, carry, x):
    """The token that scores best goes in again."""
    h, token = carry
    h = tanh(
        w("embedding", SLOTS, UNITS)[token] + dense(w, "in", x, UNITS) + h @ w("rec", UNITS, UNITS)
    )
    scores = dense(w, "out", h, SLOTS)
    return (h, jnp.argmax(scores, -1).astype(jnp.int32)), scores


def _moving(*shapes):
    return tuple((BATCH, *shape) for shape in shapes)


H, HC = (BATCH, UNITS), _moving((UNITS,), (UNITS,))
TIME = "time"
CELLS = {
    indrnn: H,
    sru: H,
    qrnn: _moving((UNITS,), (FEATURES,)),
    minimal_rnn: H,
    ugrnn: H,
    nas: HC,
    cornn: HC,
    lem: HC,
    lmu: _moving((UNITS,), (SLOTS,)),
    antisymmetric: H,
    fast_grnn: H,
    phased_lstm: HC,
    clockwork: (H, TIME),
    ode_rnn: H,
    lru: HC,
    slstm: (H, H, H, H),
    mlstm: _moving((UNITS, UNITS), (UNITS,), ()),
    mogrifier_lstm: HC,
    turing_machine: _moving((UNITS,), (SLOTS, FEATURES), (SLOTS,)),
    dnc_usage: _moving((SLOTS,), (SLOTS,), (SLOTS, SLOTS)),
    attention_unit: H,
    exponential: H,
    selective: (BATCH, FEATURES, SLOTS),
    hopfield: H,
    janet: H,
    peephole: _moving((FEATURES,), (UNITS,)),
    highway: H,
    multiplicative_lstm: HC,
    ordered_neurons: HC,
    delta_net: (BATCH, 2, 3, 3),
    rwkv: (H, H, H, (BATCH, FEATURES)),
    gru_d: _moving((UNITS,), (FEATURES,), (FEATURES,)),
    liquid: H,
    trained_memory: (BATCH, SLOTS, SLOTS),
    spiking: HC,
    stack_rnn: _moving((UNITS,), (SLOTS, FEATURES)),
    window_attention: (H, (BATCH, SLOTS, UNITS), TIME),
    kalman: _moving((SLOTS,), (SLOTS, SLOTS)),
    convolutional: (BATCH, FEATURES, 2),
    greedy_decoder: (H, "tokens"),
}
