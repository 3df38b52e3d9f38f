"""`pad_sequences`: sequences of different lengths as one array."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Sequences of different lengths as one array `(samples, maxlen, ...)`.

    Args:
        sequences: a list of sequences; each is a list or array of shape `(steps, ...)`.
        maxlen: length of all in the result; that of the longest by default.
        dtype: data type of the result; `object` for strings of any length.
        padding: "pre" or "post": where short sequences are filled up.
        truncating: "pre" or "post": where long sequences are cut.
        value: what fills.

    Raises:
        ValueError: an entry is no sequence, its steps have another shape than those of the others,
            or an argument is not one of the above.
    """
    if not hasattr(sequences, "__len__"):
        raise ValueError(f"sequences must be a list of sequences, but it is {sequences!r}.")
    for name, choice in (("padding", padding), ("truncating", truncating)):
        if choice not in ("pre", "post"):
            raise ValueError(f'{name} must be "pre" or "post", but it is {choice!r}.')
    for i, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__"):
            raise ValueError(
                f"sequences must be a list of sequences, but entry {i} is {sequence!r}."
            )
    if isinstance(value, str) and dtype is not object and np.dtype(dtype).kind not in "OSU":
        raise ValueError(f"value={value!r} does not fit dtype={dtype!r}: pass dtype=object.")
    step_shape = next((np.asarray(s).shape[1:] for s in sequences if len(s)), ())
    if maxlen is None:
        maxlen = max((len(s) for s in sequences), default=0)
    cut = False
    padded = np.full((len(sequences), maxlen, *step_shape), value, dtype=dtype)
    for i, sequence in enumerate(sequences):
        if not len(sequence) or not maxlen:
            continue
        kept = sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen]
        given = np.asarray(kept)
        kept = given.astype(dtype)
        if given.dtype.kind == "f" and kept.dtype.kind in "iu" and (given != kept).any():
            cut = True  # from what was a fraction
        if kept.shape[1:] != step_shape:
            raise ValueError(
                f"The steps of sequence {i} have shape {kept.shape[1:]}, but those of the first "
                f"have {step_shape}: all must have the same."
            )
        where = slice(maxlen - len(kept), None) if padding == "pre" else slice(len(kept))
        padded[i, where] = kept
    if cut:
        warnings.warn(
            f"pad_sequences was given fractions, which dtype={dtype!r} cuts off: pass "
            "dtype='float32'.",
            stacklevel=2,
        )
    return padded
