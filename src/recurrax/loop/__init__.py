"""The `for` loop over time: arrays and pytrees only, knows no layers."""

from recurrax.loop.explain import Explanation as Explanation
from recurrax.loop.explain import explain as explain
from recurrax.loop.scan import scan as scan
from recurrax.loop.scan import scan_batch_major as scan_batch_major

__all__ = ["Explanation", "explain", "scan", "scan_batch_major"]
