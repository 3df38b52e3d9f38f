"""Models as ONNX graphs."""

from recurrax.saving.onnx.export import export_model as export_model
