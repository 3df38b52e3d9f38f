"""How the rows of all steps lie in memory, where a product reads or writes them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Stack:
    """`steps` groups of `batch` rows each: (time, batch, features), or (batch, time, features)
    where it is `swapped`."""

    steps: int
    batch: int
    swapped: bool

    @property
    def rows(self) -> int:
        return self.steps * self.batch

    def between_steps(self, width: int) -> int:
        """How many numbers after a row of `width` features the same row of the next step lies."""
        return width if self.swapped else self.batch * width

    def between_rows(self, width: int) -> int:
        """How many numbers after a row of `width` features the next row of its step lies."""
        return self.steps * width if self.swapped else width
