"""Continuous batching: requests that run at the same time share passes, and none can tell."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diptych_diffusers.job import Job
from diptych_diffusers.loading import load
from diptych_diffusers.model import Model

from diptych import AsyncImageClient, Image, Progress
from diptych.local.checkpoints import find
from diptych.provider import Outcome

from .conftest import Checkpoints, Clients

FAMILIES = ("flux", "flux-undistilled", "sd3", "qwen-image", "z-image")
TOLERANCE = 1
"""Levels of 255 by which a picture may differ from the one that is drawn alone: rounding in float32."""

WORDS = [
    "a",
    "fox",
    "reads",
    "two",
    "books",
    "in",
    "the",
    "deep",
    "snow",
    "beside",
    "a",
    "small",
    "red",
    "house",
    "at",
    "night",
]


def jobs(count: int, photo: Image) -> list[Job]:
    """Requests that have nothing in common but the size."""
    draw = random.Random(11)
    made = []
    for number in range(count):
        words = " ".join(WORDS[: draw.randint(2, len(WORDS))])
        job = Job(
            task="generate",
            prompt=f"{words} {number}",
            seeds=(draw.randrange(2**40),),
            guidance=draw.choice((1.0, 2.5, 4.0, 7.5)),
            steps=draw.randint(3, 9),
        )
        if number == 2:
            job = job.but(task="img2img", image=photo, change=0.6)
        if number == 4:
            job = job.but(task="invert", image=photo, source_prompt="a dog", whole=True)
        if number == 6:
            job = job.but(seeds=(5, 6))
        made.append(job)
    return made


def together(model: Model, requests: list[Job]) -> list[Outcome]:
    """What the worker of a device does: one step of every job in turn, new ones in between."""
    draw = random.Random(12)
    arrivals = {number: draw.randint(0, 8) for number in range(len(requests))}
    running: dict[int, Iterator[Any]] = {}
    outcomes: dict[int, Outcome] = {}
    for now in range(200):
        for number, tick in arrivals.items():
            if tick == now:
                running[number] = model.run(requests[number], streaming=False)
        for number, steps in list(running.items()):
            event = next(steps, None)
            if isinstance(event, Outcome):
                outcomes[number] = event
                del running[number]
    assert len(outcomes) == len(requests)
    return [outcomes[number] for number in range(len(requests))]


def levels_apart(first: Image, second: Image) -> int:
    return int(np.abs(first.numpy().astype(int) - second.numpy().astype(int)).max())


def opened(folder: Any, limit: int) -> Model:
    return load(find("diffusers", str(folder)), "cpu", torch.float32, limit, "exact")


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_eight_requests_at_random_times_equal_their_solo_runs(
    family: str, checkpoint: Checkpoints, photo: Image
) -> None:
    model = opened(checkpoint(family), 8)
    passes: list[int] = []
    model.stock.parts["transformer"].register_forward_hook(
        lambda _, values, output: passes.append(1)
    )
    requests = jobs(8, photo)
    outcomes = together(model, requests)
    shared = len(passes)
    passes.clear()
    for job, outcome in zip(requests, outcomes, strict=True):
        for seed, image in zip(job.seeds, outcome.images, strict=True):
            *_, alone = model.run(job.but(seeds=(seed,)), streaming=False)
            assert image.seed == seed
            assert levels_apart(image, alone.images[0]) <= TOLERANCE
    assert shared < 0.6 * len(passes)


@torch.no_grad()
def test_a_request_that_is_cancelled_leaves_the_others_alone(checkpoint: Checkpoints) -> None:
    model = opened(checkpoint("flux"), 8)
    job = Job(task="generate", prompt="a fox", seeds=(1,), steps=6)
    *_, alone = model.run(job, streaming=False)
    kept, gone = model.run(job, streaming=False), model.run(job.but(seeds=(2,)), streaming=False)
    taken = 0
    while taken < 3:
        taken += isinstance(next(kept), Progress)
        next(gone)
    gone.close()
    *_, outcome = kept
    assert levels_apart(outcome.images[0], alone.images[0]) <= TOLERANCE


@torch.no_grad()
def test_one_that_fails_leaves_the_others_alone(checkpoint: Checkpoints) -> None:
    model = opened(checkpoint("flux"), 8)
    job = Job(task="generate", prompt="a fox", seeds=(1,), steps=6)
    *_, alone = model.run(job, streaming=False)
    first, second = model.run(job, streaming=False), model.run(job.but(seeds=(2,)), streaming=False)
    while not isinstance(next(first), Progress):
        next(second)
    failing = model.stock.parts["transformer"].register_forward_pre_hook(_out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        list(second)
    failing.remove()
    *_, outcome = first
    assert levels_apart(outcome.images[0], alone.images[0]) <= TOLERANCE


def _out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_sizes_are_not_mixed_in_a_pass(client: Clients) -> None:
    flux = client("flux", max_batch=8)
    sizes = [(64, 64), (128, 32), (32, 128), (64, 64)]

    async def all_at_once() -> list[Image]:
        async with AsyncImageClient(flux.model, device="cpu", max_batch=8) as shared:
            results = await asyncio.gather(
                *(
                    shared.generate("a fox", seed=number, steps=4, size=size)
                    for number, size in enumerate(sizes)
                )
            )
            return [result.image for result in results]

    for number, (size, image) in enumerate(zip(sizes, asyncio.run(all_at_once()), strict=True)):
        assert image.size == size
        alone = flux.generate("a fox", seed=number, steps=4, size=size).image
        assert levels_apart(image, alone) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_one_call_equal_their_solo_runs(family: str, client: Clients) -> None:
    batched = client(family, max_batch=4)
    several = batched.generate("a fox in the snow", seed=20, n=3, steps=3).images
    for number, image in enumerate(several):
        alone = batched.generate("a fox in the snow", seed=20 + number, steps=3).image
        assert levels_apart(image, alone) <= TOLERANCE
