"""Every use of what JAX does not promise to keep, and what each use relies on.

Nothing else here imports `jax.extend`, `jax.interpreters`, `jax.experimental` or `jax._src`, or
reads a field that JAX may rename. Tested with JAX 0.10.2 to 0.12 (`pyproject.toml`); a newer JAX
that lacks a name is reported in one line when this package is imported, and what behaves otherwise
there falls into the net (`fallback.py`).
"""

import jax

TESTED = "0.10.2 to 0.12"

try:
    from recurrax.loop.compat.lowering import *  # noqa: F403
    from recurrax.loop.compat.partitioning import *  # noqa: F403
    from recurrax.loop.compat.programs import *  # noqa: F403
    from recurrax.loop.compat.rules import *  # noqa: F403
except (ImportError, AttributeError) as error:
    raise ImportError(
        f"recurrax is tested with JAX {TESTED}, and JAX {jax.__version__} lacks what it needs "
        f"({error}): install a version within these bounds, or a newer recurrax."
    ) from error
