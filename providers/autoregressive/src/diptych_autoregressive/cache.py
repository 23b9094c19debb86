"""Keys and values: the static cache of one batch, and the store of conversations behind it.

The store is keyed by what was read: it gives the keys and values of the longest beginning that a new
sequence shares with one that was read before. Taking a turn back, or going two ways from one turn,
therefore needs no bookkeeping.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["KVCache", "KVStore"]

Tokens = npt.NDArray[np.int32]


class KVCache:
    """Keys and values (layers, rows, columns, 2, kv heads, head) at fixed places in memory."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        layers, rows, columns, _, heads, size = numbers.shape
        self._flat = numbers.view(layers, rows * columns, 2, heads, size)
        self._first = torch.arange(rows, device=numbers.device)[:, None] * columns
        self._all = torch.arange(columns, device=numbers.device)

    @property
    def columns(self) -> int:
        return self.numbers.shape[2]

    def places(self, columns: Tensor) -> Tensor:
        """Where tokens at `columns` (rows, q) go, for `write`."""
        return (self._first + columns).view(-1)

    def seen(self, columns: Tensor, length: int) -> Tensor:
        """Which of the first `length` columns a token at `columns` sees: (rows, 1, q, length)."""
        return (self._all[:length] <= columns[..., None])[:, None]

    def write(
        self, layer: int, places: Tensor, key: Tensor, value: Tensor, length: int
    ) -> tuple[Tensor, Tensor]:
        """Store keys and values (rows, q, heads, head); all of the layer's, (rows, heads, length, head)."""
        fresh = torch.stack((key, value), 2).flatten(0, 1)
        self._flat[layer].index_copy_(0, places, fresh)
        kept = self.numbers[layer, :, :length]
        return kept[:, :, 0].transpose(1, 2), kept[:, :, 1].transpose(1, 2)

    def put(self, rows: slice, numbers: Tensor) -> None:
        """Fill the beginning of `rows` with (layers, 1, n, 2, heads, head)."""
        self.numbers[:, rows, : numbers.shape[2]] = numbers

    def row(self, row: int, length: int) -> Tensor:
        """The first `length` columns of a row, (layers, 1, length, 2, heads, head); a view."""
        return self.numbers[:, row : row + 1, :length]


@dataclass(slots=True)
class KVStore:
    """Sequences that were read, least recently used first, in at most `limit` bytes."""

    limit: int
    _entries: OrderedDict[int, tuple[Tokens, Tensor]] = field(default_factory=OrderedDict)
    _count: int = 0

    @property
    def bytes(self) -> int:
        """Memory that the entries take."""
        return sum(numbers.nbytes for _, numbers in self._entries.values())

    def find(self, tokens: Tokens) -> Tensor | None:
        """Keys and values (layers, 1, n, ...) of the longest beginning of `tokens` that is known."""
        best, length = None, 0
        for name, (known, _) in self._entries.items():
            if (shared := _shared(known, tokens)) > length:
                best, length = name, shared
        if best is None:
            return None
        self._entries.move_to_end(best)
        return self._entries[best][1][:, :, :length]

    def keep(self, tokens: Tokens, numbers: Tensor) -> None:
        """Remember a sequence; what it begins with needs no entry of its own any more."""
        for name, (known, _) in list(self._entries.items()):
            if _shared(known, tokens) == len(known):
                del self._entries[name]
        self._count += 1
        self._entries[self._count] = (tokens, numbers.clone())
        while self._entries and self.bytes > self.limit:
            self._entries.popitem(last=False)


def _shared(first: Tokens, second: Tokens) -> int:
    """How many tokens two sequences have in common from their beginning."""
    shorter = min(len(first), len(second))
    differ = np.flatnonzero(first[:shorter] != second[:shorter])
    return int(differ[0]) if len(differ) else shorter
