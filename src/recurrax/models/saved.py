"""What a model can be written to, as methods of `Model`."""

from typing import Any

from recurrax import saving
from recurrax.saving.onnx import export_model


class Saved:
    """A model's doors to files."""

    def save(
        self, filepath: Any, overwrite: bool = True, include_optimizer: bool = True, **_: Any
    ) -> None:
        """Save the model to a `.keras` file; see `saving.save_model`.

        Args:
            filepath: where to, ending in `.keras`.
            overwrite: whether a file that is there may be replaced.
            include_optimizer: whether training is to go on from the file.

        Raises:
            ValueError: another ending, or a model that cannot be saved.
        """
        saving.save_model(self, filepath, overwrite, include_optimizer)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Save the weights to a `.weights.h5` or `.safetensors` file; see `saving.save_weights`."""
        saving.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **options: Any) -> None:
        """Load weights from a file; see `saving.load_weights`.

        Args:
            filepath: the file.
            skip_mismatch: leave layers alone whose weights are missing or differ.
            options: `by_name`, `limits`.

        Raises:
            LoadError: not such a file, or its weights do not fit; nothing was changed.
        """
        saving.load_weights(self, filepath, skip_mismatch, **options)

    def to_json(self, **options: Any) -> str:
        """The architecture as JSON, for `models.model_from_json`."""
        return saving.to_json(self, **options)

    def export(self, filepath: Any, format: str = "onnx") -> None:
        """Write the model as an ONNX graph, for inference elsewhere; see `saving.onnx`.

        Args:
            filepath: where to, such as "model.onnx".
            format: "onnx".

        Raises:
            ImportError: the package `onnx` is missing (`pip install onnx`).
            ValueError: another format, or a model that cannot be exported.
        """
        if format != "onnx":
            raise ValueError(f'export() writes format="onnx" only, but got format={format!r}.')
        export_model(self, filepath)
