"""Text to image: seeds, sizes, guidance, progress, previews, cancelling.

With the pocket model where it matters what is painted, else with a tiny one of random weights.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from diptych import (
    Completed,
    ConfigurationError,
    DeadlineExceeded,
    Image,
    ImageClient,
    Preview,
    Progress,
)

from .conftest import Checkpoints, Clients

pocket_package = pytest.importorskip("diptych_pocket")

PROMPT = "a watercolor of a fox reading a book"


@pytest.fixture(scope="module")
def pocket() -> Iterator[ImageClient]:
    with ImageClient("diffusers/pocket", device="cpu") as client:
        yield client


@pytest.fixture
def tiny(client: Clients) -> ImageClient:
    return client("flux-undistilled")


def apart(first: Image, second: Image) -> float:
    """Mean absolute difference, 0..255."""
    return float(np.abs(first.numpy().astype(int) - second.numpy().astype(int)).mean())


def test_equals_the_stock_pipeline(pocket: ImageClient) -> None:
    ours = pocket.generate(PROMPT, seed=7, steps=2, guidance=2.5, negative_prompt="a red fox").image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import FluxPipeline

        stock = FluxPipeline.from_pretrained(
            pocket_package.diffusion(), dtype=torch.float32, use_safetensors=True
        )
        stock.set_progress_bar_config(disable=True)
        theirs = stock(
            PROMPT,
            negative_prompt="a red fox",
            true_cfg_scale=2.5,
            num_inference_steps=2,
            height=128,
            width=128,
            max_sequence_length=48,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
    levels = np.abs(ours.numpy().astype(int) - np.asarray(theirs).astype(int))
    assert levels.max() <= 1


def test_picture_k_is_the_one_that_seed_plus_k_gives_alone(tiny: ImageClient) -> None:
    several = tiny.generate(PROMPT, seed=40, n=3, steps=2)
    assert [image.seed for image in several.images] == [40, 41, 42]
    alone = tiny.generate(PROMPT, seed=42, steps=2).image
    assert several.images[2].bytes == alone.bytes
    assert several.images[0].bytes != several.images[1].bytes


def test_a_seed_that_was_drawn_is_told_and_repeats_the_picture(tiny: ImageClient) -> None:
    first = tiny.generate(PROMPT, steps=2).image
    assert first.seed is not None
    assert tiny.generate(PROMPT, steps=2, seed=first.seed).image.bytes == first.bytes
    assert tiny.generate(PROMPT, steps=2).image.seed != first.seed


@pytest.mark.parametrize("size", [(64, 64), (200, 100), (37, 61), (150, 150)])
def test_the_size_asked_for_comes_back(tiny: ImageClient, size: tuple[int, int]) -> None:
    result = tiny.generate(PROMPT, seed=1, steps=1, size=size)
    assert result.image.size == size
    resized = [notice for notice in result.notices if notice.option == "size"]
    assert bool(resized) == (size != (64, 64))  # the model was trained on that one


def test_every_setting_reaches_the_model(tiny: ImageClient) -> None:
    plain = tiny.generate(PROMPT, seed=3, steps=2).image
    for options in (
        {"steps": 3},
        {"guidance": 1.0},
        {"guidance": 6.0},
        {"negative_prompt": "a book"},
        {"seed": 4},
    ):
        other = tiny.generate(PROMPT, **{"seed": 3, "steps": 2} | options).image
        assert apart(plain, other) > 0.5, options


def test_progress_is_told_step_by_step(tiny: ImageClient) -> None:
    events = list(tiny.stream_generate(PROMPT, seed=3, steps=2, n=2, previews=0))
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert {step.total for step in steps} == {len(steps)}
    assert isinstance(events[-1], Completed)
    assert not any(isinstance(event, Preview) for event in events)


def test_previews_are_clean_pictures_that_come_closer(pocket: ImageClient) -> None:
    events = list(pocket.stream_generate(PROMPT, seed=3, steps=8, previews=3))
    previews = [event for event in events if isinstance(event, Preview)]
    assert [preview.index for preview in previews] == [0, 1, 2]
    assert isinstance(events[-1], Completed)
    final = events[-1].result.image
    distances = [apart(preview.image, final) for preview in previews]
    assert distances == sorted(distances, reverse=True)
    # An estimate of the finished picture, not noise: much nearer to it than another picture is.
    assert distances[-1] < apart(pocket.generate(PROMPT, seed=9, steps=8).image, final) / 2


def test_watching_changes_nothing(tiny: ImageClient) -> None:
    *_, last = tiny.stream_generate(PROMPT, seed=3, steps=2, previews=1)
    assert last.result.image.bytes == tiny.generate(PROMPT, seed=3, steps=2).image.bytes


def test_closing_a_stream_ends_the_work(tiny: ImageClient) -> None:
    stream = tiny.stream_generate(PROMPT, seed=3, steps=999, n=64)
    assert isinstance(next(stream), Progress)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    # Would wait for 64,000 steps if the first request still ran.
    assert tiny.generate(PROMPT, seed=3, steps=1).image.size == (64, 64)


def test_a_deadline_ends_the_work(tiny: ImageClient) -> None:
    with pytest.raises(DeadlineExceeded):
        tiny.generate(PROMPT, seed=3, steps=999, n=64, timeout=0.5)
    assert tiny.generate(PROMPT, seed=3, steps=1).image.size == (64, 64)


def test_threads_share_a_client(tiny: ImageClient) -> None:
    def draw(seed: int) -> bytes:
        return tiny.generate(PROMPT, seed=seed, steps=1).image.bytes

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(draw, range(4)))
    assert together == [draw(seed) for seed in range(4)]


def test_two_clients_of_one_model_share_it_and_either_may_close(
    tiny: ImageClient, checkpoint: Checkpoints
) -> None:
    expected = tiny.generate(PROMPT, seed=5, steps=2).image.bytes
    with ImageClient(f"diffusers/{checkpoint('flux-undistilled')}", device="cpu") as other:
        assert other.generate(PROMPT, seed=5, steps=2).image.bytes == expected
    assert tiny.generate(PROMPT, seed=5, steps=2).image.bytes == expected


def test_words_that_the_model_does_not_know_are_told(pocket: ImageClient) -> None:
    plan = pocket.plan("a portrait of a physicist")
    told = [notice.message for notice in plan.notices if notice.option == "prompt"]
    assert any("'physicist'" in message for message in told)
    assert not pocket.plan(PROMPT).notices


def test_the_end_of_a_prompt_that_is_not_read_is_told(pocket: ImageClient) -> None:
    result = pocket.generate(PROMPT + ", " * 3 + "a crown, " * 30 + "a hat", seed=1, steps=1)
    told = [notice.message for notice in result.notices if "cut off" in notice.message]
    assert len(told) == 1
    assert "a hat" in told[0]


def test_local_work_costs_nothing_and_says_so(pocket: ImageClient) -> None:
    plan = pocket.plan(PROMPT)
    assert plan.estimate.low == plan.estimate.high == 0
    assert pocket.generate(PROMPT, seed=1, steps=1).cost.amount == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"dtype": "int4"},
        {"speed": "ludicrous"},
        {"max_batch": 0},
        {"max_batch": True},
        {"revision": "main"},
    ],
)
def test_settings_are_checked_before_anything_is_loaded(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        ImageClient("diffusers/pocket", **settings)


def test_planning_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from diptych import ImageClient\n"
        "client = ImageClient('diffusers/pocket')\n"
        "client.plan('a fox', n=2, seed=1, size='200x100')\n"
        "client.describe()\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
