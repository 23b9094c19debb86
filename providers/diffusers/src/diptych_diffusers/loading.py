"""Loading a checkpoint: its parts, shared where they can be, and the engine that runs them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diptych.errors import ConfigurationError
from diptych.local import devices
from diptych.local.checkpoints import Checkpoint
from diptych.local.components import component, index
from diptych.local.pool import content, pool

from .cards import Described, describe
from .classes import CLASSES
from .engine import Engine
from .flux import Flux
from .memory import SPARE, Placement, choose, needs, settle
from .model import Model
from .native import Native
from .parallel import check_family, check_heads
from .quantise import format_for
from .qwen import QwenImage
from .sd3 import StableDiffusion3
from .speed import Pace
from .stock import Stock
from .zimage import ZImage

if TYPE_CHECKING:
    from .partners import Partners

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
    checkpoint: Checkpoint,
    device: str,
    dtype: torch.dtype,
    limit: int | None,
    speed: str,
    parallel: int = 1,
) -> Model:
    """The model of a checkpoint that is on this machine, for `device`.

    Text encoders and VAEs are shared with other models that ship the same ones; the passes of the
    transformer with the `parallel` - 1 cards after `device`. Raises `ConfigurationError` when the
    weights do not fit in any way.
    """
    folder = checkpoint.folder
    assert folder is not None
    described = describe(checkpoint)
    where, lease = torch.device(device), Lease(device)
    kind = format_for(where) if speed != "exact" else None
    least = needs(folder, described.side**2, dtype.itemsize)
    free = devices.free_memory(device) + pool().idle(lease, device)
    lease.placement = choose(least, free, device, quantised=kind is not None)
    lease.running = max(least.running(part) for part in ("transformer", "vae"))
    if parallel > 1:
        lease.partners = _partners(described, folder, lease, parallel)
    try:
        return _assembled(described, folder, lease, where, dtype, limit, speed)
    except BaseException:
        lease.give_up()
        raise


def _partners(described: Described, folder: Path, lease: Lease, parallel: int) -> Partners:
    """The processes for the other cards, which start while this one loads."""
    from .partners import Partners

    check_family(described, parallel)
    config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    check_heads(config["num_attention_heads"], parallel)
    if lease.placement.kind != "resident":
        raise ConfigurationError(
            f"parallel={parallel} is for models that stay on their cards whole: {lease.placement.notices[0].message}; "
            "leave parallel out, or free memory"
        )
    return Partners(lease.device, parallel)


def _assembled(
    described: Described,
    folder: Path,
    lease: Lease,
    where: torch.device,
    dtype: torch.dtype,
    limit: int | None,
    speed: str,
) -> Model:
    assert described.facts is not None
    parts = {name: lease.part(folder, name, dtype) for name in sorted(described.facts.components)}
    for tokenizer, encoder in _TEXT:
        if parts.get(encoder) is not None and parts.get(tokenizer) is not None:
            check_tokenizer(parts[tokenizer], parts[encoder], f"{folder / tokenizer}")
    engine = pace = None
    if (native := _NATIVE.get(described.family.native)) is not None:
        own = native(parts, where, dtype)
        resident = lease.placement.kind == "resident"
        if lease.partners is not None:
            lease.partners.share(own.transformer, speed, lease.running)
        pace = Pace(own.transformer, speed, where, compiles=resident)
        if lease.partners is not None:
            lease.partners.lead(own.transformer, pace)
        engine = partial(
            Engine,
            own,
            described,
            limit=limit,
            pace=pace,
        )
    lease.settle(parts)
    return Model(described, engine, Stock(parts, described, lease.device, dtype), lease, pace)


class Lease:
    """The parts that one model holds in the pool of the process, and where they are kept.

    `partners` are the processes on further cards.
    """

    placement: Placement
    running: int
    partners: Partners | None = None

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

    @property
    def is_lost(self) -> bool:
        """Whether the model cannot draw any more, and has to be loaded again."""
        return self.partners is not None and self.partners.is_lost

    def confirm(self) -> None:
        """What has been drawn is whole. Raises `Unavailable` when another card fell out meanwhile."""
        if self.partners is not None:
            self.partners.check()

    def give_up(self) -> None:
        """The model is not used any more."""
        if self.partners is not None:
            self.partners.close()
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
