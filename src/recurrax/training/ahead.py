"""Steps compiled by a thread beside the training, before their turn comes."""

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from recurrax.training.data import ArraySource, Rounds
from recurrax.utils import pack_x_y_sample_weight as pack


class Ahead:
    """Compilations under way in a thread, by the shapes of their batch.

    What is compiled there is found by `jax.jit` when the step is called with such a batch.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: dict[Hashable, Future[Any]] = {}

    def start(self, kind: str, batch: Any, compile: Callable[[Any], Any]) -> None:
        """Begin `compile(batch)`; `kind` and the shapes of the batch are its key."""
        key = (kind, _key(batch))
        if key not in self._jobs:
            self._pool = self._pool or ThreadPoolExecutor(1, "recurrax-compile")
            self._jobs[key] = self._pool.submit(compile, batch)

    def wait(self, kind: str, batch: Any) -> None:
        """Wait for the compilation for batches like this one, if it is under way."""
        job = self._jobs.pop((kind, _key(batch)), None) if self._jobs else None
        if job is not None:
            # The step itself says what is wrong, where something is.
            job.exception()

    def close(self) -> None:
        """Begin nothing more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _key(batch: Any) -> Hashable:
    return tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(batch))


def shapes_of_batches(rounds: Rounds) -> list[Any]:
    """Batches of each shape that an epoch of arrays has, as shapes; the usual one first."""
    source = rounds.source
    if not isinstance(source, ArraySource) or rounds.steps is not None:
        return []
    batch = pack(*source.peek())
    sizes = [min(source.batch_size, source.num_samples)]
    if source.last_batch_size != sizes[0]:
        sizes.append(source.last_batch_size)
    return [
        jax.tree.map(
            lambda a, size=size: jax.ShapeDtypeStruct(
                (size, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype)
            ),
            batch,
        )
        for size in sizes
    ]
