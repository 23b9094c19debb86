"""Running a call on the thread of its device: load, split into batches, draw, put together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from diptych.cost import Cost
from diptych.errors import ConfigurationError
from diptych.events import Preview, Progress
from diptych.local import checkpoints, devices
from diptych.local.pool import pool
from diptych.provider import Outcome, Settings
from diptych.result import Usage

from .families import family_of
from .family import Drawn, Family, Files, Job, Model, Runtime

__all__ = ["Engine"]

PREVIEWS = 3
"""Unfinished pictures of each that are shown when somebody watches and did not say how many."""

SHARE = 0.8
"""The part of the free memory that a batch may take."""


SMALL = 128 * 2**20
"""Bytes of weights up to which a CPU draws with one thread. The matrices of such a model are too
small to share out, and its pictures then do not depend on how many threads torch was given."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One call's way through a device; `run` gives its steps."""

    files: Files
    settings: Settings
    device: str
    owner: object
    streaming: bool

    def run(
        self, payload: Mapping[str, Any], seeds: Sequence[int]
    ) -> Generator[Progress | Preview | Outcome | None, None, None]:
        """Yields the events of a call and, last, its outcome."""
        family = family_of(self.files)
        folder = checkpoints.fetch(self.files.checkpoint, family.patterns)
        model = self._model(family, folder)
        yield None
        previews = payload.get("previews", PREVIEWS) if self.streaming else 0
        batch = self._batch(model, payload, len(seeds))
        groups = [tuple(seeds[at : at + batch]) for at in range(0, len(seeds), batch)]
        threads = self._threads(folder)
        drawn: list[Drawn] = []
        for number, group in enumerate(groups):
            job = Job(payload, group, self.streaming, previews)
            steps = model.draw(job)
            while True:
                try:
                    with _threads(threads):
                        event = next(steps)
                except StopIteration as end:
                    drawn.append(end.value)
                    break
                yield _placed(event, number, len(groups), batch)
        yield self._outcome(drawn, seeds)

    def _model(self, family: Family, folder: Path) -> Model:
        runtime = Runtime(
            self.device, devices.pick_dtype(self.settings.dtype, self.device), self.settings.speed
        )
        key = (
            folder.resolve(),
            self.files.weights,
            self.device,
            str(runtime.dtype),
            runtime.speed,
        )
        found = Files.of(
            self.files.ref, replace(self.files.checkpoint, folder=folder), self.files.weights
        )
        model: Model = pool().hold(self.owner, key, lambda: family.load(found, folder, runtime))
        return model

    def _threads(self, folder: Path) -> int | None:
        """How many threads a step takes; None for as many as torch was given."""
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return 1 if self.device == "cpu" and size <= SMALL else None

    def _batch(self, model: Model, payload: Mapping[str, Any], n: int) -> int:
        """How many of `n` pictures fit in memory together."""
        each, free = model.picture_bytes(payload), devices.free_memory(self.device)
        fit = int(free * SHARE) // max(1, each)
        if fit < 1:
            raise ConfigurationError(
                f"one picture of {self.files.ref} takes about {each / 2**20:,.0f} MiB beside the "
                f"weights, and {self.device} has {free / 2**20:,.0f} MiB free; ask for a smaller size"
            )
        return min(n, fit)

    def _outcome(self, drawn: Sequence[Drawn], seeds: Sequence[int]) -> Outcome:
        pictures = [picture for each in drawn for picture in each.pictures]
        tokens = [each.tokens for each in drawn if each.tokens is not None]
        passes = [each.passes for each in drawn if each.passes is not None]
        return Outcome(
            images=tuple(
                picture.with_(seed=seed) for picture, seed in zip(pictures, seeds, strict=True)
            ),
            usage=Usage(
                tokens=sum(tokens) if tokens else None, steps=sum(passes) if passes else None
            ),
            cost=Cost(Decimal(0), source="computed"),
            notices=drawn[0].notices,
            state=drawn[0].state,
        )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """For one step: the setting is the process's, and other jobs want their own."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _placed(
    event: Progress | Preview | None, number: int, groups: int, batch: int
) -> Progress | Preview | None:
    """An event of batch `number`, counted over all of the call."""
    if isinstance(event, Progress) and event.total is not None and event.done is not None:
        done = event.done + number * event.total
        return replace(event, done=done, total=event.total * groups)
    if isinstance(event, Preview):
        return replace(event, picture=event.picture + number * batch)
    return event
