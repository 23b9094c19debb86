"""What the families with their own networks share in drawing: weights, seeds, pictures, previews."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.local.tensors import to_image

from .weights import Weights, converted

__all__ = ["fitting", "generators", "painted", "preview_steps", "weights"]


def weights(path: Path, device: str, dtype: torch.dtype, *parts: str) -> Mapping[str, Tensor]:
    """The tensors of a file, of the first of `parts` ("model_ema", ...) that it has, else all.

    Pickled files are converted to safetensors once; see `converted`.
    """
    safe = converted(path)
    whole = Weights([safe], device, dtype)
    for start in (f"{part}." for part in parts):
        if any(name.startswith(start) for name in whole):
            return Weights([safe], device, dtype, partial(_under, start))
    return whole


def _under(start: str, name: str) -> str | None:
    return name.removeprefix(start) if name.startswith(start) else None


@contextmanager
def fitting(path: Path, what: str) -> Iterator[None]:
    """What torch says of tensors that are missing, unknown or of another shape, as `InvalidInput`."""
    try:
        yield
    except (RuntimeError, KeyError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InvalidInput(f"{path} does not hold {what}: {error}") from None


def generators(seeds: Sequence[int], device: str) -> list[torch.Generator]:
    """One generator per picture: the device's own where it is CUDA, so that nothing is copied."""
    where = device if device.startswith("cuda") else "cpu"
    return [torch.Generator(where).manual_seed(seed) for seed in seeds]


def painted(decode: Callable[[Tensor], Tensor], latents: Tensor) -> Iterator[Image]:
    """The picture of each latent, decoded one by one: a decoder takes more memory than the model."""
    for latent in latents:
        yield to_image(decode(latent[None])[0])


def preview_steps(count: int, steps: int) -> list[int]:
    """After how many of `steps` an unfinished picture is shown: `count` times, never at the end."""
    every = {max(1, round(steps * (k + 1) / (count + 1))) for k in range(count)}
    return sorted(step for step in every if step < steps)
