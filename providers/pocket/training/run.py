"""What every training command shares: options, the canvas, progress lines, weights on disk, sample grids."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from training import feed, glyphs
from training.canvas import Canvas
from training.optim import Training
from training.words import Words

SHARD = 15 * 2**20
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One command's surroundings."""

    inputs: Path  # sprites.npz, words.json and the weights that earlier commands made
    outputs: Path
    seconds: float
    steps: int | None
    batch: int | None
    seed: int
    workers: int
    every: float  # seconds between saved weights and sample sheets
    decay: float  # the last share of this run, in which the learning rate falls to zero
    state: Path | None  # where the full state is kept between runs on one machine
    compile: bool
    device: torch.device

    @classmethod
    def of(cls, options: argparse.Namespace) -> Run:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(options.seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch._dynamo.config.suppress_errors = True  # what does not compile runs as it is
        torch.backends.cuda.enable_cudnn_sdp(
            False
        )  # its attention kernels have crashed in training
        options.outputs.mkdir(parents=True, exist_ok=True)
        return cls(
            options.inputs, options.outputs, options.seconds, options.steps, options.batch, options.seed, options.workers, options.every, options.decay,
            options.state, options.compile and device.type == "cuda", device,
        )  # fmt: skip

    @property
    def words(self) -> Words:
        return Words(self.inputs / "words.json")

    def canvas(self) -> Canvas:
        return Canvas(
            glyphs.load(self.inputs / "sprites.npz"),
            self.device,
            self.seed,
            variants=48 if self.device.type == "cuda" else 4,
        )

    def feed(self, make: Callable[..., feed.Batch], n: int, offset: int = 0) -> feed.Feed:
        return feed.Feed(make, self.inputs / "words.json", n, self.seed + offset, self.workers)

    def send(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return (
            tensor.pin_memory().to(self.device, non_blocking=True)
            if self.device.type == "cuda"
            else tensor
        )

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def faster(self, module: Callable[P, T]) -> Callable[P, T]:
        return torch.compile(module, dynamic=False) if self.compile else module

    def restore(self, name: str, model: nn.Module, training: Training) -> int:
        """Go on from the full state of an earlier run on this machine, else from its brought-back weights; the steps done so far."""
        if self.state and (path := self.state / f"{name}.pt").exists():
            saved = torch.load(path, map_location=self.device, weights_only=True)
            training.load(saved["training"])
            return int(saved["steps"])
        if any(self.inputs.glob(f"{name}.*.safetensors")):
            load(self.inputs, name, model)
            for average, parameter in zip(training.average, training.parameters, strict=True):
                average.copy_(parameter.detach())
            return int(json.loads((self.inputs / f"{name}.json").read_text())["steps"])
        return 0

    def shown(self, prompts: Sequence[str], each: int) -> list[str]:
        """Prompts for a sample sheet, `each` times; a dry run on a CPU draws one."""
        return (
            [text for text in prompts for _ in range(each)]
            if self.device.type == "cuda"
            else list(prompts[:1])
        )

    def keep(self, name: str, training: Training, steps: int) -> None:
        if self.state:
            self.state.mkdir(parents=True, exist_ok=True)
            torch.save({"training": training.state(), "steps": steps}, self.state / f"{name}.pt")


class Log:
    """Prints a line every few seconds of training; losses stay on the device until then."""

    def __init__(self, name: str, every: float = 10.0) -> None:
        self.name, self.every, self.begun = name, every, time.monotonic()
        self.last = self.begun - every  # the first step prints a line, too
        self.losses: list[torch.Tensor] = []

    def __call__(self, step: int, losses: dict[str, torch.Tensor]) -> None:
        self.losses.append(torch.stack([value.detach().float() for value in losses.values()]))
        now = time.monotonic()
        if now - self.last > self.every:
            means = torch.stack(self.losses).mean(0).tolist()
            text = "  ".join(f"{key} {mean:.4f}" for key, mean in zip(losses, means, strict=True))
            rate = len(self.losses) / (now - self.last)
            passed = f"{now - self.begun:.0f} s  {rate:.1f} steps/s"
            print(f"{self.name} step {step}  {passed}  {text}", flush=True)
            self.last, self.losses = now, []


class Clock:
    """True once every so many seconds."""

    def __init__(self, every: float) -> None:
        self.every, self.last = every, time.monotonic()

    def strikes(self) -> bool:
        struck = time.monotonic() - self.last > self.every
        if struck:
            self.last = time.monotonic()
        return struck


def save(folder: Path, name: str, model: nn.Module) -> None:
    """Weights in half precision, as `name.0.safetensors`, `name.1.safetensors` ... of at most 15 MiB each."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for key, tensor in model.state_dict().items():
        tensor = (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        if size + tensor.nbytes > SHARD:
            shards.append({})
            size = 0
        shards[-1][key] = tensor
        size += tensor.nbytes
    for index, shard in enumerate(shards):
        whole = folder / f"{name}.{index}.safetensors"
        save_file(shard, whole.with_suffix(".part"))
        whole.with_suffix(".part").replace(whole)


def load(folder: Path, name: str, model: nn.Module) -> None:
    weights = {
        key: value
        for path in sorted(folder.glob(f"{name}.*.safetensors"))
        for key, value in load_file(path).items()
    }
    if not weights:
        raise FileNotFoundError(f"no weights {name}.*.safetensors in {folder}")
    model.load_state_dict(weights)


def grid(pictures: torch.Tensor, columns: int) -> Image.Image:
    """Pictures (N, 3, H, W) in [-1, 1] as one sheet."""
    columns = min(columns, len(pictures))
    rows = len(pictures) // columns
    array = (
        pictures[: rows * columns]
        .float()
        .clamp(-1, 1)
        .add(1)
        .mul(127.5)
        .round()
        .byte()
        .permute(0, 2, 3, 1)
        .cpu()
        .numpy()
    )
    h, w = array.shape[1:3]
    return Image.fromarray(
        array.reshape(rows, columns, h, w, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(rows * h, columns * w, 3)
    )
