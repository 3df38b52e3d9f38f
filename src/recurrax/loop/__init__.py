"""The `for` loop over time: arrays and pytrees only, knows no layers."""

from recurrax.loop import heap as _heap
from recurrax.loop.explain import Explanation as Explanation
from recurrax.loop.explain import explain as explain
from recurrax.loop.scan import scan as scan

__all__ = ["Explanation", "explain", "scan"]

_heap.share_one_arena()
