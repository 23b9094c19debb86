"""The grammar of a picture: which tokens are codes to be sampled, and which are fixed by position.

Tokens of a picture are counted in its own small vocabulary: codes 0..V-1 first, then the fixed
tokens (line ends, closing tokens) from V on. A family maps these to its vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Grammar"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A raster of `rows` x `columns` codes out of `size`, with `line` after each row.

    `last_line` tells whether `line` also follows the last row; `close` ends the picture.
    """

    rows: int
    columns: int
    size: int
    line: tuple[int, ...] = ()
    last_line: bool = True
    close: tuple[int, ...] = ()

    @property
    def codes(self) -> int:
        """How many codes are sampled."""
        return self.rows * self.columns

    @property
    def body(self) -> int:
        """Tokens from the first code to the last one, line ends included."""
        return self.codes + (self.rows - 1) * len(self.line)

    @property
    def length(self) -> int:
        """Tokens of the whole picture."""
        return self.body + len(self.line) * self.last_line + len(self.close)

    def position(self, code: int) -> int:
        """Where code number `code` stands among the picture's tokens."""
        return code + code // self.columns * len(self.line)

    def after(self, code: int) -> tuple[int, ...]:
        """The fixed tokens between code number `code` and the next one."""
        ends = code % self.columns == self.columns - 1 and code < self.codes - 1
        return self.line if ends else ()

    def forced(self, device: torch.device | str = "cpu") -> Tensor:
        """For each of the `length` positions the token that must stand there, or -1 for a code."""
        row = torch.tensor((-1,) * self.columns + self.line)
        tokens = row.repeat(self.rows)
        if not self.last_line and self.line:
            tokens = tokens[: -len(self.line)]
        return torch.cat((tokens, torch.tensor(self.close, dtype=torch.long))).to(device)

    def written(self, codes: Tensor) -> Tensor:
        """All tokens (..., length) of a picture whose codes (..., rows * columns) are given."""
        tokens = self.forced(codes.device).expand(*codes.shape[:-1], -1).clone()
        tokens[tokens < 0] = codes.flatten()
        return tokens
