"""What the families with networks of our own share: weights, seeds, pictures, previews."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.events import Preview, Progress
from diptych.image import Image
from diptych.local.tensors import to_image

from .family import Drawn, Event, Job
from .weights import Weights, converted

__all__ = ["fitting", "generators", "one_by_one", "painted", "preview_steps", "weights"]


def weights(path: Path, device: str, dtype: torch.dtype, *parts: str) -> dict[str, Tensor]:
    """The tensors of a file, of the first of `parts` ("model_ema", ...) that it has, else all.

    Pickled files are converted to safetensors once; see `converted`.
    """
    whole = Weights([converted(path)], device, dtype)
    for start in (f"{part}." for part in parts):
        if any(name.startswith(start) for name in whole):
            return whole.under(start)
    return dict(whole)


@contextmanager
def fitting(path: Path, what: str) -> Iterator[None]:
    """What torch says of tensors that are missing, unknown or of another shape, as `InvalidInput`."""
    try:
        yield
    except (RuntimeError, KeyError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InvalidInput(f"{path} does not hold {what}: {error}") from None


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator per picture, on the CPU: a seed means the same noise on every device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def one_by_one(
    draw: Callable[[Job], Generator[Event, None, Drawn]], job: Job
) -> Generator[Event, None, Drawn]:
    """Draw the pictures of a batch alone, one after another, and count their events together.

    Products of matrices round differently with the number of rows, so a picture that must not
    depend on its batch to the last bit is drawn without one.
    """
    drawn: list[Drawn] = []
    for number, seed in enumerate(job.seeds):
        steps = draw(replace(job, seeds=(seed,)))
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                drawn.append(end.value)
                break
            if isinstance(event, Preview):
                event = replace(event, picture=number)
            elif isinstance(event, Progress) and event.done is not None and event.total is not None:
                done = event.done + number * event.total
                event = replace(event, done=done, total=event.total * len(job.seeds))
            yield event
    return Drawn(
        tuple(picture for each in drawn for picture in each.pictures),
        drawn[0].state,
        tokens=sum(each.tokens or 0 for each in drawn),
        passes=sum(each.passes or 0 for each in drawn),
    )


def painted(decode: Callable[[Tensor], Tensor], latents: Tensor) -> Iterator[Image]:
    """The picture of each latent, decoded one by one: a decoder takes more memory than the model."""
    for latent in latents:
        yield to_image(decode(latent[None])[0])


def preview_steps(count: int, steps: int) -> list[int]:
    """After how many of `steps` an unfinished picture is shown: `count` times, never at the end."""
    every = {max(1, round(steps * (k + 1) / (count + 1))) for k in range(count)}
    return sorted(step for step in every if step < steps)
