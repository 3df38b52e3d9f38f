"""The trials of PyTorch."""

import functools
from typing import Any

from trial import UNITS, X, close, refused


def cell(torch: Any) -> str:
    make = functools.partial(torch.nn.RNNBase, torch.nn.LSTMCell, 3, UNITS)
    return "no" if refused(make, TypeError, ValueError) else "yes"


def mask(torch: Any) -> str:
    embedding = torch.nn.Embedding(5, 3, padding_idx=0)
    lstm = torch.nn.LSTM(3, UNITS, batch_first=True)

    def last(x: Any) -> Any:
        return lstm(x)[1][0].detach()

    ids = torch.tensor([[1, 2, 0]])
    alone = last(embedding(ids[:, :2]))
    if close(last(embedding(ids)), alone):
        return "yes"
    packed = torch.nn.utils.rnn.pack_padded_sequence(embedding(ids), [2], batch_first=True)
    return "by hand" if close(last(packed), alone) else "no"


def dropout(torch: Any) -> str:
    given = {"recurrent_dropout": 0.5}
    return "no" if refused(lambda: torch.nn.LSTM(3, UNITS, **given), TypeError) else "yes"


def stream(torch: Any) -> str:
    lstm, states = torch.nn.LSTM(3, UNITS, batch_first=True), None
    if hasattr(lstm, "stream"):
        return "yes"
    with torch.no_grad():
        for t in range(6):
            y, states = lstm(torch.tensor(X[:, t : t + 1]), states)
        return "by hand" if close(y[:, 0], lstm(torch.tensor(X))[0][:, -1]) else "no"


def segments(torch: Any) -> str:
    from torch.utils.checkpoint import checkpoint

    lstm = torch.nn.LSTM(3, UNITS, batch_first=True)
    x = torch.tensor(X)

    def gradients(y: Any) -> Any:
        return [g.numpy() for g in torch.autograd.grad(y[:, -1].sum(), list(lstm.parameters()))]

    expected = gradients(lstm(x)[0])
    _, states = checkpoint(lstm, x[:, :3], use_reentrant=False)
    got = gradients(checkpoint(lstm, x[:, 3:], states, use_reentrant=False)[0])
    return "by hand" if all(map(close, got, expected)) else "no"


def states(torch: Any) -> str:
    output, states = torch.nn.LSTM(3, UNITS, batch_first=True)(torch.tensor(X))
    every = [y for y in (output, *states) if y.shape[:2] == (2, 6)]
    return "no" if len(every) == 1 else "yes"


def outside(torch: Any) -> str:
    embedding = torch.nn.Embedding(5, 3)
    error = refused(lambda: embedding(torch.tensor([99])), IndexError)
    return "an error" if error else "something, silently"


def forward_mode(torch: Any) -> str:
    lstm, x = torch.nn.LSTM(3, UNITS), torch.tensor(X)

    def derivative() -> Any:
        return torch.func.jvp(lambda x: lstm(x)[0], (x,), (torch.ones_like(x),))

    return "no" if refused(derivative, NotImplementedError) else "yes"
