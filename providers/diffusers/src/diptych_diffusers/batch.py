"""Continuous batching: samplers that run at the same time share forward passes.

Every request is a generator on its device's thread and calls `advance` once in each of its steps.
The first one in a round takes the rows of the others along; they find theirs already advanced when
their turn comes. So a request that arrives joins at the next step, and one that ends or is
cancelled leaves without the others noticing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from .flow import Sampler, Step
from .native import Native

__all__ = ["Batch", "Row"]

TOKENS = 4096
"""Image tokens that fill a GPU: more in one pass take as long as another pass would."""

_MOST = 16
"""Pictures in one pass at most, however small."""


@dataclass(eq=False)
class Row:
    """One picture on its way. `group` says which rows may share a pass; `result` is set at the end."""

    sampler: Sampler
    group: Hashable
    step: Step = field(init=False)
    clean: Tensor | None = field(init=False, default=None)
    result: Tensor | None = field(init=False, default=None)
    ahead: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        try:
            self.step = next(self.sampler)
        except StopIteration as end:
            self.result = end.value

    def take(self, answers: Sequence[Tensor]) -> None:
        """Go on by one step."""
        try:
            self.step = self.sampler.send(answers)
            self.clean = self.step.clean
        except StopIteration as end:
            self.result = self.clean = end.value


class Batch:
    """The rows that run on one model. Everything happens on the thread of its device.

    `limit` is how many rows share a pass; None: on a GPU as many as fill it, on a CPU 1, since a
    pass over two pictures takes as long as two passes, and alone a picture is the same bit for bit
    whatever runs beside it.
    """

    def __init__(self, model: Native, limit: int | None) -> None:
        self.model = model
        self.limit = limit
        self._rows: list[Row] = []
        self._last: torch.cuda.Event | None = None

    def room(self, grid: tuple[int, int]) -> int:
        """How many pictures of (rows, columns) of patches share a pass."""
        if self.limit is not None:
            return self.limit
        if self.model.device.type == "cpu":
            return 1
        return min(max(1, TOKENS // (grid[0] * grid[1])), _MOST)

    def join(self, row: Row) -> None:
        self._rows.append(row)

    def leave(self, row: Row) -> None:
        self._rows.remove(row)
        row.sampler.close()

    def advance(self, mine: Sequence[Row]) -> None:
        """One step for every row of `mine` that has not ended."""
        behind = [row for row in mine if not row.ahead and row.result is None]
        if behind:
            self._pass(behind)
        for row in mine:
            row.ahead = False

    def _pass(self, first: Sequence[Row]) -> None:
        others = (
            row
            for row in self._rows
            if row not in first
            and row.group == first[0].group
            and not row.ahead
            and row.result is None
        )
        room = max(0, self.room(first[0].step.asks[0].grid) - len(first))
        chosen = [*first, *islice(others, room)]
        asks = [ask for row in chosen for ask in row.step.asks]
        answers = self.model.velocities(asks)
        for row in chosen:
            count = len(row.step.asks)
            row.take(answers[:count])
            answers = answers[count:]
            row.ahead = True
        self._keep_pace()

    def _keep_pace(self) -> None:
        """Wait for the pass before this one: the host stays one pass ahead of a GPU, no further."""
        if self.model.device.type != "cuda":
            return
        if self._last is not None:
            self._last.synchronize()
        self._last = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._last.record()
