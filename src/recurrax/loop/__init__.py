"""The `for` loop over time: arrays and pytrees only, knows no layers."""

from recurrax.loop.scan import scan as scan

__all__ = ["scan"]
