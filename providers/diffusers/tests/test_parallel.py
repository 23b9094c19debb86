"""Pictures drawn by several processes together. Here they share a CPU, where others have a card each."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from diptych_diffusers.partners import Partners
from torch._C._distributed_c10d import FileStore

from diptych import (
    AsyncImageClient,
    ConfigurationError,
    Control,
    Image,
    ImageClient,
    LoRA,
    Mask,
    Progress,
    Reference,
    Unavailable,
    UnsupportedOption,
)

from .conftest import Checkpoints, Clients

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")

TOLERANCE = 1
"""Levels of 255 by which a picture may differ from that of one process: rounding in float32."""

ODD = "105x39"
"""21 tokens of the tiny models, which two processes share unequally."""


def levels_apart(first: Image, second: Image) -> int:
    return int(np.abs(first.numpy().astype(int) - second.numpy().astype(int)).max())


def partners() -> list[int]:
    """The processes that this one has started for passes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
            command = (path.parent / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == os.getpid() and b"diptych_diffusers.partner" in command:
            found.append(int(path.parent.name))
    return found


async def at_once(client: AsyncImageClient, prompts: Sequence[str]) -> list[Image]:
    async with client:
        results = await asyncio.gather(
            *(client.generate(each, seed=number, steps=3) for number, each in enumerate(prompts))
        )
        return [result.image for result in results]


@pytest.mark.parametrize("family", ["flux", "qwen-image"])
def test_two_processes_draw_what_one_draws(family: str, client: Clients, photo: Image) -> None:
    one, two = client(family), client(family, parallel=2, max_batch=2)
    mask = Mask.box((0, 0, 32, 32), size=photo.size)
    for prompt, size in (("a fox reading a book", None), ("two foxes reading a book.", ODD)):
        drawn = [each.generate(prompt, seed=3, steps=3, size=size).image for each in (one, two)]
        assert levels_apart(*drawn) <= TOLERANCE
    left = two.stream_generate("a fox", steps=900, previews=0)
    next(event for event in left if isinstance(event, Progress))
    left.close()
    for how in ({"mask": mask}, {"mode": "invert", "source_prompt": "a dog"}):
        edits = [each.edit(photo, "a fox", seed=3, steps=3, **how).image for each in (one, two)]
        assert levels_apart(*edits) <= TOLERANCE
    prompts = ("a fox", "a very long story of a fox in the snow")
    together = AsyncImageClient(two.model, device="cpu", parallel=2, max_batch=2)
    for number, image in enumerate(asyncio.run(at_once(together, prompts))):
        alone = one.generate(prompts[number], seed=number, steps=3).image
        assert levels_apart(image, alone) <= TOLERANCE
    assert len(partners()) == 1
    with pytest.raises(
        ConfigurationError, match="another model of this process runs on several cards"
    ):
        client(family, parallel=2, max_batch=3).generate("a fox")
    two.close()
    assert partners() == []
    assert not dist.is_initialized()


def test_the_end_of_a_partner_is_an_error_and_not_the_end(client: Clients) -> None:
    two = client("flux", parallel=2)
    before = two.generate("a fox", seed=3, steps=3).image
    events = two.stream_generate("a fox", steps=900, previews=0)
    next(event for event in events if isinstance(event, Progress))
    [partner] = partners()
    os.kill(partner, signal.SIGKILL)
    with pytest.raises(Unavailable, match="on cpu ended with code -9") as caught:
        list(events)
    assert caught.value.provider == "diffusers"
    assert two.generate("a fox", seed=3, steps=3).image.bytes == before.bytes


def test_partners_do_not_outlive_the_application(checkpoint: Checkpoints) -> None:
    code = (
        "import os, signal, sys\n"
        "from diptych import ImageClient\n"
        "client = ImageClient(sys.argv[1], device='cpu', parallel=2)\n"
        "client.generate('a fox', steps=1)\n"
        "children = [open(f'/proc/self/task/{each}/children').read().split()\n"
        "            for each in os.listdir('/proc/self/task')]\n"
        "print(*(pid for each in children for pid in each), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"diffusers/{checkpoint('flux')}"],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    [partner] = map(int, done.stdout.split())
    for _ in range(100):
        if not runs(partner):
            return
        time.sleep(0.1)
    pytest.fail(f"{partner} still runs")


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("parallel", [0, -1, 9, True, "2", 2.0])
def test_the_number_of_cards_is_checked_at_once(parallel: object, checkpoint: Checkpoints) -> None:
    with pytest.raises(ConfigurationError, match="parallel="):
        ImageClient(f"diffusers/{checkpoint('flux')}", device="cpu", parallel=parallel)


@pytest.mark.parametrize("family", ["sd3", "z-image", "flux-kontext", "sd"])
def test_families_that_run_on_one_card_are_refused_in_the_plan(
    family: str, client: Clients
) -> None:
    with pytest.raises(ConfigurationError, match=r"runs on one card; FLUX\.1 and Qwen-Image"):
        client(family, parallel=2).plan("a fox")


def test_more_cards_than_a_family_can_use_are_refused(client: Clients) -> None:
    with pytest.raises(ConfigurationError, match="Qwen-Image runs on up to 2 cards"):
        client("qwen-image", parallel=4).plan("a fox")
    with pytest.raises(
        ConfigurationError, match="2 attention heads of this model; take one of 1, 2"
    ):
        client("flux", parallel=3).generate("a fox")
    assert partners() == []


def test_what_needs_one_card_is_refused_in_the_plan(client: Clients, photo: Image) -> None:
    two = client("flux", parallel=2)
    for option, value in (
        ("adapters", [LoRA("some/lora")]),
        ("controls", [Control("canny", photo, path="some/controlnet")]),
        ("references", [Reference(photo)]),
    ):
        extra = {"ip_adapter": "some/adapter"} if option == "references" else {}
        with pytest.raises(UnsupportedOption, match="are for one card") as caught:
            two.plan("a fox", extra=extra, **{option: value})
        assert caught.value.option == option


def test_a_process_that_is_distributed_already_is_left_alone(
    client: Clients, tmp_path: Path
) -> None:
    dist.init_process_group("gloo", store=FileStore(str(tmp_path / "f"), 1), rank=0, world_size=1)
    try:
        with pytest.raises(ConfigurationError, match=r"torch.distributed is in use"):
            client("flux", parallel=2).generate("a fox")
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_devices_that_are_not_there_are_named(device: str, client: Clients) -> None:
    with pytest.raises(ConfigurationError, match="is not on this machine"):
        client("flux", device=device, parallel=2).generate("a fox")


def test_cards_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda card: f"Card {card}")
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    with pytest.raises(
        ConfigurationError, match=r"machine has cuda:0 \(Card 0\), cuda:1 \(Card 1\)"
    ):
        Partners("cuda:1", 2)
