"""Loading a checkpoint: its parts, shared where they can be, and the engine that runs them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from diptych.errors import ConfigurationError
from diptych.local import devices
from diptych.local.checkpoints import Checkpoint
from diptych.local.components import component, index
from diptych.local.pool import content, pool

from .cards import describe
from .classes import CLASSES
from .engine import Engine
from .flux import Flux
from .memory import SPARE, Placement, choose, needs, settle
from .model import Model
from .native import Native
from .quantise import format_for
from .qwen import QwenImage
from .sd3 import StableDiffusion3
from .speed import Pace
from .stock import Stock
from .zimage import ZImage

__all__ = ["load"]

_VOCABULARY_SLACK = 4096
"""A vocabulary is padded to a round size in the weights, by no more than this or half of it."""


_DENOISERS = ("transformer", "unet", "prior", "controlnet")

_NATIVE: dict[str, type[Native]] = {
    "flux": Flux,
    "qwen": QwenImage,
    "sd3": StableDiffusion3,
    "z-image": ZImage,
}
_TEXT = (
    ("tokenizer", "text_encoder"),
    ("tokenizer_2", "text_encoder_2"),
    ("tokenizer_3", "text_encoder_3"),
)


def load(
    checkpoint: Checkpoint, device: str, dtype: torch.dtype, limit: int | None, speed: str
) -> Model:
    """The model of a checkpoint that is on this machine, for `device`.

    Text encoders and VAEs are shared with other models that ship the same ones. Raises
    `ConfigurationError` when the weights do not fit in any way.
    """
    folder = checkpoint.folder
    assert folder is not None
    described = describe(checkpoint)
    assert described.facts is not None
    where, lease = torch.device(device), Lease(device)
    kind = format_for(where) if speed != "exact" else None
    least = needs(folder, described.side**2, dtype.itemsize)
    free = devices.free_memory(device) + pool().idle(lease, device)
    lease.placement = choose(least, free, device, quantised=kind is not None)
    lease.running = max(least.running(part) for part in ("transformer", "vae"))
    parts = {name: lease.part(folder, name, dtype) for name in sorted(described.facts.components)}
    for tokenizer, encoder in _TEXT:
        if parts.get(encoder) is not None and parts.get(tokenizer) is not None:
            check_tokenizer(parts[tokenizer], parts[encoder], f"{folder / tokenizer}")
    engine = pace = None
    if (native := _NATIVE.get(described.family.native)) is not None:
        own = native(parts, where, dtype)
        resident = lease.placement.kind == "resident"
        pace = Pace(own.transformer, speed, where, compiles=resident)
        engine = partial(
            Engine,
            own,
            described,
            limit=limit or (1 if device == "cpu" else 8),
            pace=pace,
        )
    lease.settle(parts)
    return Model(described, engine, Stock(parts, described, device, dtype), lease, pace)


class Lease:
    """The parts that one model holds in the pool of the process, and where they are kept."""

    placement: Placement
    running: int

    def __init__(self, device: str) -> None:
        self.device = device

    def part(self, folder: Path, name: str, dtype: torch.dtype) -> Any:
        """A component; the one of another model when that has the same weights.

        A denoiser is never shared: adapters and eight bits are put into it.
        """
        entry = index(folder).get(name)
        if entry is None or not any((folder / name).glob("*.safetensors")):
            return component(folder, name, dtype, CLASSES)
        key: tuple[object, ...] = (id(self), name)
        if name not in _DENOISERS and self.placement.kind == "resident":
            key = (content(folder / name), entry[1], str(dtype), self.device)
        return pool().hold(self, key, lambda: component(folder, name, dtype, CLASSES))

    def settle(self, parts: dict[str, Any]) -> None:
        """See that the parts come to the device when they are needed; others make room for good."""
        if self.placement.kind != "resident":
            pool().bring(object(), self.device, lambda: -1)
            settle(parts, self.placement, torch.device(self.device))

    def arrive(self) -> None:
        """Have the parts on the device, others there moving out where they must."""
        if self.placement.kind == "resident":
            pool().bring(self, self.device, self._room)

    def _room(self) -> int:
        return devices.free_memory(self.device) - SPARE - self.running

    def give_up(self) -> None:
        """The model is not used any more."""
        pool().leave(self)


def check_tokenizer(tokenizer: Any, encoder: Any, where: str) -> None:
    """Refuse a tokenizer that does not belong to its encoder; one without files loads as an empty one."""
    size = encoder.config.get_text_config().vocab_size
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if not size - min(_VOCABULARY_SLACK, size // 2) <= len(tokenizer) <= size:
        raise ConfigurationError(
            f"{where}: the tokenizer knows {len(tokenizer)} tokens and the text encoder {size}; "
            "the checkpoint's tokenizer files are missing or belong to another model"
        )
